//! `admin` of the table: where operators are served, and who of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::quantity::{Size, Time};

/// The `format` of an address with a port in the JSON Schema.
pub const ADDRESS: &str = "trestle-address";

/// Health, metrics and the API.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address and port.
    #[schemars(extend("format" = ADDRESS))]
    pub listen: String,
    /// Who may ask. Needed where others than this machine reach `listen`; there `none` says that everyone may read.
    pub auth: Option<Auth>,
    pub limits: Limits,
}

/// What clients together may take of the server. Health is told beyond all of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at the same time. On some more only health is told.
    pub connections: u32,
    /// How long a client may take to send a request's head, and again for its body; also how long a connection may idle.
    pub head_timeout: Time,
    /// How long a request may take. A connection is closed within twice this time, whatever its client does.
    pub request_timeout: Time,
    /// Bytes of a request's body.
    pub body: Size,
    /// Requests of one peer in a second.
    pub requests: u32,
}

/// Who may ask, or `none`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Auth {
    None(NoAuth),
    Required(Required),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum NoAuth {
    None,
}

/// `tokens`, `jwt`, or both. A request has one of them as `Authorization: Bearer ...`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Required {
    /// By a name of your choice, which is what the audit log calls whoever has the token.
    pub tokens: BTreeMap<String, Token>,
    pub jwt: Option<Jwt>,
    /// Whether `/metrics` needs the scope `view`, or is `open` to everyone.
    pub metrics: Metrics,
}

/// A token that does not expire.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The secret itself, best from elsewhere: `${file:/run/secrets/token}` or `${NAME}`.
    pub token: String,
    #[schemars(length(min = 1))]
    pub scopes: Vec<Scope>,
}

/// `view` reads, `operate` changes; neither holds the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Scope {
    View,
    Operate,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Metrics {
    Open,
    #[default]
    View,
}

/// JSON Web Tokens of an identity provider. `exp`, `iss`, `aud` and `sub` must be in them; `nbf` counts where it is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The only one that is taken, whatever a token says of itself.
    pub algorithm: Algorithm,
    /// The issuer's public key as PEM (RS256), or the shared secret (HS256). Read again when it changes.
    #[schemars(length(min = 1))]
    pub key_file: String,
    /// What `iss` must be.
    #[schemars(length(min = 1))]
    pub issuer: String,
    /// What `aud` must be, or hold.
    #[schemars(length(min = 1))]
    pub audience: String,
    /// The claim with the scopes: words with spaces between them, or a list.
    #[serde(default = "scopes_claim")]
    #[schemars(length(min = 1))]
    pub scopes_claim: String,
    /// How far the clocks may be apart.
    #[serde(default = "leeway")]
    pub leeway: Time,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Algorithm {
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "RS256")]
    Rs256,
}

impl Default for Admin {
    fn default() -> Self {
        Admin { listen: "127.0.0.1:9464".into(), auth: None, limits: Limits::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 64,
            head_timeout: Time::millis(10_000),
            request_timeout: Time::millis(75_000),
            body: Size(64 << 10),
            requests: 100,
        }
    }
}

fn scopes_claim() -> String {
    "scope".to_owned()
}

const fn leeway() -> Time {
    Time::millis(30_000)
}
