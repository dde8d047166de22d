//! TLS of the server: the certificate from its files, and again from them when they change. A
//! pair of files that can't be used, such as one of which only half is replaced, leaves the old
//! certificate in use.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::options::TlsFiles;
use crate::error::{Error, ErrorKind, Result};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often it is looked whether the files have changed.
const LOOK: Duration = Duration::from_secs(1);

/// What turns connections into encrypted ones.
#[derive(Clone)]
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
}

#[derive(Debug)]
struct Certificate {
    files: TlsFiles,
    present: RwLock<Arc<CertifiedKey>>,
    // Of the files when they were last looked at, whatever came of it.
    seen: Mutex<Stamp>,
}

/// What tells that a file is another: both files' time, inode and size.
type Stamp = [Option<(SystemTime, u64, u64)>; 2];

impl Tls {
    /// Reads the files.
    ///
    /// Errors: [`ErrorKind::InvalidConfig`] where they can't be used.
    pub(super) fn new(files: TlsFiles) -> Result<Self> {
        let certificate = Arc::new(Certificate {
            seen: Mutex::new(stamp(&files)),
            present: RwLock::new(Arc::new(load(&files)?)),
            files,
        });
        let no_tls = |source| invalid("can't set up TLS").with_source(source);
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(no_tls)?
            .with_no_client_auth()
            .with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A client that comes back is spared half the handshake.
        config.ticketer = ring::Ticketer::new().map_err(no_tls)?;
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), certificate })
    }

    /// The encrypted connection; `None` where the handshake fails, which is the client's affair.
    pub(super) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream)).await.ok()?.ok()
    }

    /// Looks after the files, for ever.
    pub(super) async fn watch(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.certificate.look();
        }
    }
}

impl Certificate {
    /// Takes the files again if they have changed.
    fn look(&self) {
        let now = stamp(&self.files);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::replace(&mut *seen, now) == now {
                return;
            }
        }
        match load(&self.files) {
            Ok(fresh) => {
                *self.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                log::info!("the certificate was replaced by that in its files");
            }
            Err(error) => {
                log::warn!("the certificate is not replaced, the old one is used: {error}")
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.present.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    [&files.certificate, &files.key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.ino(), metadata.len()))
    })
}

fn load(files: &TlsFiles) -> Result<CertifiedKey> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|source| unreadable(&files.certificate, source))?;
    if certificates.is_empty() {
        return Err(invalid(format!(
            "there is no certificate in '{}'",
            files.certificate.display()
        )));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| unreadable(&files.key, source))?;
    CertifiedKey::from_der(certificates, key, &ring::default_provider()).map_err(|source| {
        let (certificate, key) = (files.certificate.display(), files.key.display());
        invalid(format!("the certificate '{certificate}' and the key '{key}' can't be used"))
            .with_source(source)
    })
}

fn unreadable(path: &Path, source: rustls::pki_types::pem::Error) -> Error {
    let text = format!("can't read '{}' as PEM (a key must not be encrypted)", path.display());
    invalid(text).with_source(source.to_string())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}
