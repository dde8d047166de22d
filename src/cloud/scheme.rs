//! Whose object store it is, told by the scheme of its URLs.

/// Whose object store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon S3, or what speaks its language.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// A web server.
    Http,
    /// A web server, by TLS.
    Https,
}

impl Cloud {
    const ALL: [Cloud; 4] = [Cloud::S3, Cloud::Gcs, Cloud::Http, Cloud::Https];

    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            Cloud::S3 => "s3",
            Cloud::Gcs => "gs",
            Cloud::Http => "http",
            Cloud::Https => "https",
        }
    }

    /// The one whose URLs have this scheme; `None`: there is none.
    pub fn of_scheme(scheme: &str) -> Option<Self> {
        Cloud::ALL.into_iter().find(|cloud| cloud.scheme() == scheme)
    }

    /// Whether there are buckets whose keys can be listed.
    pub fn has_buckets(self) -> bool {
        matches!(self, Cloud::S3 | Cloud::Gcs)
    }

    /// The tool that finds credentials as we do.
    pub fn tool(self) -> &'static str {
        match self {
            Cloud::S3 => "the AWS command line",
            Cloud::Gcs => "gcloud (application default credentials)",
            Cloud::Http | Cloud::Https => "curl, which has none",
        }
    }
}
