//! What a Pulsar cluster's entry in the route table may say.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// A Pulsar cluster.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Service URL: `pulsar://host:6650` or `pulsar+ssl://host:6651`; several hosts separated by commas.
    pub url: String,
    /// REST URL: `http://host:8080` or `https://host:8443`. Without it Trestle creates no namespaces and topics on this
    /// cluster, and cannot check that staged messages do not expire.
    #[serde(default)]
    pub admin: Option<String>,
    /// A token (JWT) to authenticate with.
    #[serde(default)]
    pub token: Option<String>,
    /// A file that holds the token; read again for every connection, so that it may be replaced at any time.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    #[serde(default)]
    pub tls: Tls,
    /// The advertised listener to ask brokers for (`advertisedListeners` of the brokers).
    #[serde(default)]
    pub listener: Option<String>,
}

/// TLS for `pulsar+ssl://` and `https://`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file with the certificate authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file with a client certificate; needs `key`.
    pub cert: Option<PathBuf>,
    /// PEM file with the client certificate's key.
    pub key: Option<PathBuf>,
    /// Do not compare the broker's name with its certificate.
    pub insecure_hostname: bool,
}
