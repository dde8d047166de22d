//! The feature server over HTTP/2: by prior knowledge, and over TLS as ALPN agrees on it.

use std::sync::Arc;

use feastrs::server::{Options, TlsFiles};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::redis_server::tls_folder;
use crate::server::start;

/// The answers to several requests that are in flight together on one connection.
async fn ask<S>(stream: S) -> Vec<(u16, Bytes)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answers = ["/health", "/nope", "/chat"].map(|path| {
        let request = Request::get(format!("http://h{path}")).body(Full::<Bytes>::default());
        let mut sender = sender.clone();
        async move {
            let response = sender.send_request(request.unwrap()).await.unwrap();
            assert_eq!(response.version(), Version::HTTP_2);
            let status = response.status().as_u16();
            (status, response.into_body().collect().await.unwrap().to_bytes())
        }
    });
    futures_util::future::join_all(answers).await
}

fn check(answers: &[(u16, Bytes)]) {
    let statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 404, 501]);
    assert_eq!(answers[1].1, r#"{"detail":"Not Found"}"#);
}

fn connector() -> TlsConnector {
    let authority = format!("{}/ca.pem", tls_folder());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

#[test]
fn http_2_with_and_without_tls() {
    let options = Options { port: 0, access_log: false, ..Options::default() };
    let plain = start(options.clone());
    let files = TlsFiles {
        certificate: format!("{}/server.pem", tls_folder()).into(),
        key: format!("{}/server.key", tls_folder()).into(),
    };
    let secure = start(Options { tls: Some(files), ..options });

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(plain.address()).await.unwrap();
        check(&ask(stream).await);

        let stream = TcpStream::connect(secure.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector().connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        check(&ask(stream).await);
    });
}
