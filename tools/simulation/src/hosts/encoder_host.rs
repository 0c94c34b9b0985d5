//! The process of an encoder: the real service with its queue, admission and cache, over a model
//! that takes simulated time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use encoder_svc::bundle::Description;
use encoder_svc::calibration::{AllCoreWorker, Calibration};
use encoder_svc::config::EncoderConfig;
use encoder_svc::grpc::EncoderServer;
use encoder_svc::limited_encoder::LimitedEncoder;
use encoder_svc::scheduler::admission::Admission;
use encoder_svc::scheduler::cost::CostModel;
use encoder_svc::{Encoder, EncoderSvcConfig, EncoderSvcSettings};
use futures_util::{Stream, StreamExt as _};
use proto::encoder::v1::encoder_service_server::{EncoderService, EncoderServiceServer};
use proto::encoder::v1::{
    EncodeRequest, EncodeResponse, EncodeStreamRequest, EncodeStreamResponse, GetEncoderRequest,
    GetEncoderResponse,
};
use service_kit::{GrpcServer, Metrics};
use tonic::{Request, Response, Status, Streaming};

use crate::hosts::encoder_workers::{SimulatedModel, TaskWorkers};
use crate::network::incoming;
use crate::plan::Garbage;
use crate::sabotage::Sabotage;
use crate::truth;
use crate::world::{Life, World};

/// The port of the encoders.
pub const PORT: u16 = 50051;
/// Metadata of calls whose responses must not be replaced with garbage.
pub const HONEST: &str = "simulation-honest";

/// The text whose cost every encoder is given at its start.
const KNOWN: &str = "one two three four five six seven eight nine ten";

/// Runs the process.
pub async fn run(world: Arc<World>, index: usize) -> anyhow::Result<()> {
    let state = &world.encoders[index];
    let generation = state.generation.load(Ordering::Relaxed);
    let metrics = Metrics::default();
    let shutdown = Life::begin(&world, move |world| &world.encoders[index].life, &metrics);
    let mut settings = EncoderSvcSettings {
        drain_seconds: 1.0,
        endpoint_removal_seconds: world.plan.removal_seconds,
        ..EncoderSvcSettings::default()
    };
    settings.encoder.sessions = world.plan.sessions;
    settings.encoder.all_core_threads = 2;
    settings.encoder.cache_mib = world.plan.cache_mib;
    settings.encoder.max_queue_ms = world.plan.max_queue_ms;
    let config = EncoderSvcConfig::try_from(settings)?;
    let description = Description {
        id: "simulated-16".to_owned(),
        version: generation.to_string(),
        fingerprint: truth::fingerprint(generation),
        dimension: truth::DIMENSION,
        max_tokens: truth::MAX_TOKENS,
    };
    let model = SimulatedModel { world: world.clone(), index, fingerprint: description.fingerprint.clone() };
    let costs = CostModel::new(truth::MAX_TOKENS, KNOWN, truth::cost(KNOWN));
    // The time to load and check a bundle.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let EncoderConfig { sessions, queue_limits, .. } = config.encoder;
    let admission = Arc::new(Admission::new(costs, sessions, queue_limits, &metrics));
    let workers = TaskWorkers::start(model, sessions, &admission);
    state.set_queue(workers.queue(), generation);
    let known = truth::cost(KNOWN);
    let calibration = Calibration::new(known, Some(known / 2), AllCoreWorker::On);
    let encoder =
        Arc::new(Encoder::new(description, calibration, admission, workers, &config.encoder, &metrics));
    let inner = EncoderServer::new(LimitedEncoder::new(encoder, config.limits));
    let service = Distorted { inner, world: world.clone(), index };
    let server = GrpcServer::new(proto::FILE_DESCRIPTOR_SET, config.drain, metrics)?.with_service(
        EncoderServiceServer::new(service).max_decoding_message_size(config.limits.max_message_bytes()),
    );
    server.health().await.set_serving(true).await;
    world.event(&format!("encoder-{index} serves generation {generation}"));
    server.serve_incoming(incoming(PORT).await?, shutdown).await;
    world.event(&format!("encoder-{index} has ended"));
    Ok(())
}

/// The real handlers, whose responses may be replaced with garbage.
struct Distorted {
    inner: EncoderServer,
    world: Arc<World>,
    index: usize,
}

impl Distorted {
    fn distort(&self, mut response: EncodeResponse) -> EncodeResponse {
        let sabotage = self.world.plan.sabotage;
        if sabotage == Some(Sabotage::Reorder) {
            response.embeddings.reverse();
        }
        let Some(garbage) = self.world.encoders[self.index].garbage() else { return response };
        self.world.ledger.count("garbage:response");
        match garbage {
            Garbage::Dimension => {
                response.embeddings.iter_mut().take(1).for_each(|embedding| embedding.values.truncate(1));
            }
            Garbage::NotANumber => {
                let values =
                    response.embeddings.iter_mut().take(1).flat_map(|embedding| &mut embedding.values);
                values.take(1).for_each(|value| *value = f32::NAN);
            }
            Garbage::TooFew => drop(response.embeddings.pop()),
            Garbage::TooMany => response.embeddings.extend(response.embeddings.first().cloned()),
            Garbage::None => response.embeddings.clear(),
            Garbage::Fingerprint => response.fingerprint = truth::fingerprint(66),
        }
        response
    }
}

#[tonic::async_trait]
impl EncoderService for Distorted {
    async fn get_encoder(
        &self,
        request: Request<GetEncoderRequest>,
    ) -> Result<Response<GetEncoderResponse>, Status> {
        self.inner.get_encoder(request).await
    }

    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        let is_honest = request.metadata().contains_key(HONEST);
        let response = self.inner.encode(request).await?;
        Ok(if is_honest { response } else { response.map(|response| self.distort(response)) })
    }

    type EncodeStreamStream = Pin<Box<dyn Stream<Item = Result<EncodeStreamResponse, Status>> + Send>>;

    async fn encode_stream(
        &self,
        request: Request<Streaming<EncodeStreamRequest>>,
    ) -> Result<Response<Self::EncodeStreamStream>, Status> {
        let responses = self.inner.encode_stream(request).await?.into_inner();
        let sabotage = self.world.plan.sabotage;
        let responses = responses.enumerate().flat_map(move |(index, response)| {
            let times = match sabotage {
                Some(Sabotage::RepeatResponse) if index == 1 => 2,
                Some(Sabotage::LoseResponse) if index == 1 => 0,
                _ => 1,
            };
            futures_util::stream::iter(std::iter::repeat_n(response, times))
        });
        Ok(Response::new(Box::pin(responses)))
    }
}
