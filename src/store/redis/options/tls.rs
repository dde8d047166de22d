//! redis-py's `ssl_…` parameters.

use std::path::PathBuf;

use super::invalid;
use super::parameter::Parameter;
use crate::error::Result;

/// What is asked of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Verification {
    /// Signed by an authority that is trusted, and made for this host.
    Full,
    /// Signed by an authority that is trusted.
    AuthorityOnly,
    /// Nothing: any server is believed.
    None,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum TlsVersion {
    #[default]
    V1_2,
    V1_3,
}

/// TLS, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct TlsOptions {
    pub(in super::super) verification: Verification,
    pub(in super::super) min_version: TlsVersion,
    pub(in super::super) ca_certs: Option<PathBuf>,
    pub(in super::super) ca_path: Option<PathBuf>,
    /// Certificates of authorities, as PEM text.
    pub(in super::super) ca_data: Option<String>,
    /// The client's own certificate and key.
    pub(in super::super) identity: Option<(PathBuf, PathBuf)>,
}

/// The parameters as far as they have been read.
#[derive(Default)]
pub(super) struct TlsFields {
    enabled: bool,
    check_hostname: Option<bool>,
    cert_reqs: Option<String>,
    min_version: TlsVersion,
    ca_certs: Option<PathBuf>,
    ca_path: Option<PathBuf>,
    ca_data: Option<String>,
    certfile: Option<PathBuf>,
    keyfile: Option<PathBuf>,
}

impl TlsFields {
    /// Whether the parameter is one of these.
    pub(super) fn set(&mut self, parameter: &Parameter) -> Result<bool> {
        match parameter.name.as_str() {
            "ssl" => self.enabled = parameter.boolean()?,
            "ssl_check_hostname" => self.check_hostname = Some(parameter.boolean()?),
            "ssl_cert_reqs" => self.cert_reqs = Some(parameter.string()),
            "ssl_ca_certs" => self.ca_certs = Some(parameter.string().into()),
            "ssl_ca_path" => self.ca_path = Some(parameter.string().into()),
            "ssl_ca_data" => self.ca_data = Some(parameter.string()),
            "ssl_certfile" => self.certfile = Some(parameter.string().into()),
            "ssl_keyfile" => self.keyfile = Some(parameter.string().into()),
            // Needed for encrypted keys only, and those are refused where they are read.
            "ssl_password" => {}
            "ssl_min_version" => self.min_version = min_version(parameter)?,
            "ssl_validate_ocsp" | "ssl_validate_ocsp_stapled" if parameter.boolean()? => {
                return Err(invalid(format!(
                    "connection_string has {}=true, which is not supported: certificates are not \
                     checked for revocation",
                    parameter.name
                )));
            }
            "ssl_validate_ocsp" | "ssl_validate_ocsp_stapled" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `None`: no TLS.
    pub(super) fn finish(self) -> Result<Option<TlsOptions>> {
        let verification = match self.cert_reqs.as_deref().unwrap_or("required") {
            "none" => Verification::None,
            "optional" | "required" if self.check_hostname == Some(false) => {
                Verification::AuthorityOnly
            }
            // A server always shows a certificate, so "optional" asks as much as "required".
            "optional" | "required" => Verification::Full,
            other => {
                return Err(invalid(format!(
                    "connection_string has ssl_cert_reqs='{other}'; use none, optional or required"
                )));
            }
        };
        let identity = match (self.certfile, self.keyfile) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            // One file may hold both, as for Python's ssl module.
            (Some(both), None) => Some((both.clone(), both)),
            (None, Some(_)) => {
                return Err(invalid("connection_string has ssl_keyfile without ssl_certfile"));
            }
            (None, None) => None,
        };
        let options = TlsOptions {
            verification,
            min_version: self.min_version,
            ca_certs: self.ca_certs,
            ca_path: self.ca_path,
            ca_data: self.ca_data,
            identity,
        };
        Ok(self.enabled.then_some(options))
    }
}

/// The names and numbers of Python's `ssl.TLSVersion`.
fn min_version(parameter: &Parameter) -> Result<TlsVersion> {
    match parameter.string().as_str() {
        "TLSv1_2" | "TLSv1.2" | "771" => Ok(TlsVersion::V1_2),
        "TLSv1_3" | "TLSv1.3" | "772" => Ok(TlsVersion::V1_3),
        _ => Err(parameter.wrong("TLSv1_2 or TLSv1_3")),
    }
}
