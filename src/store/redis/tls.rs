//! TLS settings for rustls, from redis-py's parameters. Must not know sockets.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};

use super::options::{TlsOptions, Verification};
use crate::error::{Error, ErrorKind, Result};

/// What rustls needs to know to open a connection as `options` ask.
pub(super) fn client_config(options: &TlsOptions) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
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
        Some((certificate, key)) => {
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|source| unreadable(key, source))?;
            builder.with_client_auth_cert(certificates(certificate)?, key).map_err(|source| {
                invalid(format!("can't use the certificate '{}'", certificate.display()))
                    .with_source(source)
            })?
        }
    };
    Ok(Arc::new(config))
}

fn trusted(options: &TlsOptions) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = match (&options.ca_certs, &options.ca_path) {
        (None, None) => rustls_native_certs::load_native_certs().certs,
        (file, folder) => {
            let mut found = Vec::new();
            if let Some(file) = file {
                found.extend(certificates(file)?);
            }
            if let Some(folder) = folder {
                found.extend(rustls_native_certs::load_certs_from_paths(None, Some(folder)).certs);
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
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let options = TlsOptions {
            verification: Verification::Full,
            ca_certs: Some("/nowhere/ca.pem".into()),
            ca_path: None,
            identity: None,
        };

        let error = client_config(&options).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn no_verification_needs_no_authority() {
        let options = TlsOptions {
            verification: Verification::None,
            ca_certs: None,
            ca_path: None,
            identity: None,
        };

        assert!(client_config(&options).is_ok());
    }
}
