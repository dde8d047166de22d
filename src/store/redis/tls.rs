//! TLS settings for rustls, from redis-py's parameters. Must not know sockets.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};

use super::options::{TlsOptions, TlsVersion, Verification};
use crate::error::{Error, ErrorKind, Result};

/// The newest first.
const ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// What rustls needs to know to open a connection as `options` ask.
pub(super) fn client_config(options: &TlsOptions) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(match options.min_version {
            TlsVersion::V1_2 => ALL_VERSIONS,
            TlsVersion::V1_3 => &ALL_VERSIONS[..1],
        })
        .map_err(|source| invalid("can't set up TLS").with_source(source))?;
    let builder = match options.verification {
        Verification::Full => builder.with_root_certificates(trusted(options)?),
        Verification::AuthorityOnly => {
            let inner =
                WebPkiServerVerifier::builder_with_provider(Arc::new(trusted(options)?), provider)
                    .build()
                    .map_err(|source| invalid("can't set up TLS").with_source(source))?;
            let verifier = Arc::new(AnyName { inner });
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
        Verification::None => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone { provider }))
        }
    };
    let config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|source| {
                invalid(format!("can't use the certificate '{}'", certificate.display()))
                    .with_source(source)
            })?,
    };
    Ok(Arc::new(config))
}

fn trusted(options: &TlsOptions) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = match (&options.ca_certs, &options.ca_path, &options.ca_data) {
        (None, None, None) => rustls_native_certs::load_native_certs().certs,
        (file, folder, data) => {
            let mut found = Vec::new();
            if let Some(file) = file {
                found.extend(certificates(file)?);
            }
            if let Some(folder) = folder {
                found.extend(rustls_native_certs::load_certs_from_paths(None, Some(folder)).certs);
            }
            if let Some(data) = data {
                found.extend(certificates_of(data)?);
            }
            found
        }
    };
    // The system's store may hold certificates that rustls can't use; one that it can is enough.
    roots.add_parsable_certificates(found);
    match roots.is_empty() {
        true => Err(invalid(
            "no certificate authority to trust was found; name a file of them with ssl_ca_certs \
             in connection_string",
        )),
        false => Ok(roots),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(|certificates| certificates.collect())
        .map_err(|source| unreadable(path, source))
}

fn certificates_of(data: &str) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(data.as_bytes())
        .collect::<std::result::Result<_, _>>()
        .map_err(|source| invalid("can't read ssl_ca_data as PEM").with_source(source.to_string()))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The headers of an encrypted key, in PKCS #8 and in OpenSSL's older form.
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return invalid(format!(
                "the key in '{}' is encrypted, and ssl_password is not supported; decrypt it, with \
                 `openssl pkey -in KEY -out DECRYPTED`, and name that file with ssl_keyfile",
                path.display()
            ));
        }
        unreadable(path, source)
    })
}

fn unreadable(path: &Path, source: rustls::pki_types::pem::Error) -> Error {
    let message = format!("can't read '{}' as PEM", path.display());
    invalid(message).with_source(source.to_string())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// `ssl_check_hostname=false`: the authority counts, the name does not.
#[derive(Debug)]
struct AnyName {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        // rustls looks at the name last, when the chain has been found good.
        match self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// `ssl_cert_reqs=none`: whoever answers is believed.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Options;
    use super::*;
    use crate::config::Secret;

    fn config_of(parameters: &str) -> Result<Arc<ClientConfig>> {
        let options = Options::parse(&Secret::new(format!("h:1,ssl=true,{parameters}")))?;
        client_config(&options.tls.expect("it is asked for"))
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        for (parameters, named) in [
            ("ssl_ca_certs=/nowhere/ca.pem", "/nowhere/ca.pem"),
            ("ssl_ca_data=\"-----BEGIN CERTIFICATE-----\\n!\"", "ssl_ca_data"),
            ("ssl_ca_data=nothing", "no certificate authority"),
            ("ssl_cert_reqs=none,ssl_certfile=/nowhere/both.pem", "/nowhere/both.pem"),
        ] {
            let error = config_of(parameters).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn no_verification_needs_no_authority() {
        assert!(config_of("ssl_cert_reqs=none").is_ok());
    }

    #[test]
    fn an_encrypted_key_is_told_from_garbage() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pem");
        let certificate = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rust/tls/server.pem");
        for (text, named) in [
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n", "is encrypted"),
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", "is encrypted"),
            ("garbage", "as PEM"),
        ] {
            std::fs::write(&key, text).unwrap();
            let error = config_of(&format!(
                "ssl_cert_reqs=none,ssl_certfile={certificate},ssl_keyfile={},ssl_password=hunter2",
                key.display()
            ));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("key.pem"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
