//! The encoder of `--embedded`, inside this process.

use service_kit::Metrics;
use tonic::transport::Channel;

/// Starts an encoder from its own settings; `bundle` overrides their bundle.
///
/// It runs until the process ends, because calls in flight during shutdown still need it.
#[cfg(feature = "embedded")]
pub(super) async fn encoder(bundle: Option<String>, metrics: Metrics) -> anyhow::Result<Channel> {
    use service_kit::{Overrides, Shutdown, load_settings};

    let flags = Overrides::default().with("encoder.bundle", bundle);
    let settings: encoder_svc::EncoderSvcSettings =
        load_settings(encoder_svc::config::ENVIRONMENT_PREFIX, None, flags)?;
    Ok(encoder_svc::embedded::channel(settings, metrics, Shutdown::new()).await?)
}

#[cfg(not(feature = "embedded"))]
pub(super) async fn encoder(_bundle: Option<String>, _metrics: Metrics) -> anyhow::Result<Channel> {
    anyhow::bail!(
        "this binary was built without the `embedded` feature; give the address of a running encoder or service instead"
    )
}
