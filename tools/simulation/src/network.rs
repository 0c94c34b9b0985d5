//! turmoil's network as a transport of the service kit, and as the connections that a server
//! accepts.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use service_kit::{Io, Transport};
use turmoil::net::{TcpListener, TcpStream};

/// The transport between turmoil's hosts. Clones share the names.
#[derive(Debug, Clone, Default)]
pub struct SimulatedNetwork {
    /// Names that stand for several hosts. Any other name is the name of one host.
    names: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
}

impl SimulatedNetwork {
    /// Sets the hosts of a name. Without hosts, lookups fail.
    pub fn set_name(&self, name: &str, hosts: Vec<String>) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), hosts);
    }

    fn hosts(&self, name: &str) -> Vec<String> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(name).cloned().unwrap_or_else(|| vec![name.to_owned()])
    }
}

impl Transport for SimulatedNetwork {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let hosts = self.hosts(host);
            if hosts.is_empty() {
                return Err(io::Error::other("the name server does not answer"));
            }
            Ok(hosts.into_iter().map(|host| SocketAddr::new(turmoil::lookup(host), port)).collect())
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(address).await?) as Box<dyn Io>) })
    }
}

/// Listens on a port of this host.
pub async fn incoming(port: u16) -> io::Result<impl Stream<Item = io::Result<TcpStream>>> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    Ok(unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    }))
}
