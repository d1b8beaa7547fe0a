/// How a broker is started, where the default does not do.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub(super) conf: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) files: Vec<(String, Vec<u8>)>,
    pub(super) ports: Vec<u16>,
    pub(super) proxied: bool,
    pub(super) name_servers: Option<usize>,
}

impl Settings {
    /// One more line of the broker's own configuration (server.properties, standalone.conf, broker.conf); it wins over the
    /// image's line with the same key.
    pub fn conf(mut self, line: impl Into<String>) -> Self {
        self.conf.push(line.into());
        self
    }

    /// A variable of the image's start script, like `HEAP`.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Pulsar only: a file that is there before the broker starts, by its path in the container.
    pub fn file(mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.into(), content.into()));
        self
    }

    /// Kafka and Pulsar: one more port that is reached from the host, under the same number.
    pub fn port(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// Puts a [`TcpProxy`](crate::TcpProxy) before the broker: the address it hands to clients is then the proxy's.
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Pulsar only: asks for tokens; [`TRESTLE`](Self::TRESTLE) may do everything, [`NOBODY`](Self::NOBODY) nothing yet.
    pub fn secured(self) -> Self {
        // 32 times `k`; the tokens are signed with it.
        const KEY: &str = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";
        let trestle = Settings::TRESTLE;
        self.conf("authenticationEnabled=true")
            .conf("authorizationEnabled=true")
            .conf("superUserRoles=trestle")
            .conf("authenticationProviders=org.apache.pulsar.broker.authentication.AuthenticationProviderToken")
            .conf(format!("tokenSecretKey=data:;base64,{KEY}"))
            .conf("brokerClientAuthenticationPlugin=org.apache.pulsar.client.impl.auth.AuthenticationToken")
            .conf(format!("brokerClientAuthenticationParameters=token:{trestle}"))
            .env("HEALTH_TOKEN", trestle)
    }

    /// Kafka only: a second listener, on `port`, that asks for SCRAM-SHA-256; see [`Kafka::set_user`](super::Kafka::set_user).
    pub fn scram(self, port: u16) -> Self {
        const LOGIN: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        self.env("HOST_PORT", port.to_string())
            .port(port)
            .conf("listener.security.protocol.map=PLAINTEXT:PLAINTEXT,HOST:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT")
            .conf("sasl.enabled.mechanisms=SCRAM-SHA-256")
            .conf(format!("listener.name.host.scram-sha-256.sasl.jaas.config={LOGIN}"))
    }

    /// RocketMQ only: asks for signatures of this user, who may do everything.
    pub fn acl(self, user: &str, secret: &str) -> Self {
        const AUTH: &str = "org.apache.rocketmq.auth";
        self.conf("authenticationEnabled=true")
            .conf("authorizationEnabled=true")
            .conf(format!("authenticationProvider={AUTH}.authentication.provider.DefaultAuthenticationProvider"))
            .conf(format!(
                "authenticationMetadataProvider={AUTH}.authentication.provider.LocalAuthenticationMetadataProvider"
            ))
            .conf(format!("authorizationProvider={AUTH}.authorization.provider.DefaultAuthorizationProvider"))
            .conf(format!(
                "authorizationMetadataProvider={AUTH}.authorization.provider.LocalAuthorizationMetadataProvider"
            ))
            .conf(format!(r#"initAuthenticationUser={{"username":"{user}","password":"{secret}"}}"#))
            .conf(format!(r#"innerClientAuthenticationCredentials={{"accessKey":"{user}","secretKey":"{secret}"}}"#))
    }

    /// The token of the role `trestle`.
    pub const TRESTLE: &str =
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0cmVzdGxlIn0.209QWYTOZ2Pozrzwv4CVQCRuIdz1wiLsrk5qa4oU4F0";
    /// The token of the role `nobody`.
    pub const NOBODY: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJub2JvZHkifQ.KyskxNK0RDZvTHw_DuLSELwGyWMbWFvjUjckxqxAggY";

    /// RocketMQ only: how many name servers the broker registers with, one if not said.
    pub fn name_servers(mut self, count: usize) -> Self {
        self.name_servers = Some(count);
        self
    }

    /// The variable in which the images take further configuration lines.
    pub(super) fn all_env(&self) -> Vec<(String, String)> {
        let mut env = self.env.clone();
        env.push(("EXTRA_CONF".to_owned(), self.conf.join("\n")));
        env
    }
}
