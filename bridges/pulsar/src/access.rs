//! How to get into a cluster: TCP or TLS, and the token.

use std::{path::PathBuf, sync::Arc};

use pulsar::message::proto::AuthData;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::{
    connection::{Reader, Writer},
    settings::Settings,
    tls,
    url::BrokerUrl,
};

/// Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    token: Token,
    tls: TlsConnector,
}

enum Token {
    None,
    Fixed(String),
    /// Read again for every connection and every challenge of the broker, so that a refreshed token is used.
    File(PathBuf),
}

impl Access {
    /// Reads the certificates; the token file is read later, each time it is needed.
    pub fn new(settings: &Settings) -> Result<Access, String> {
        let token = match (&settings.token, &settings.token_file) {
            (Some(_), Some(_)) => return Err("`token` and `token_file` cannot both be set".into()),
            (Some(token), None) => Token::Fixed(token.trim().into()),
            (None, Some(path)) => Token::File(path.into()),
            (None, None) => Token::None,
        };
        Ok(Access(Arc::new(Inner { token, tls: tls::connector(&settings.tls)? })))
    }

    /// The token as CONNECT and the REST interface take it.
    pub async fn token(&self) -> Result<Option<Vec<u8>>, String> {
        match &self.0.token {
            Token::None => Ok(None),
            Token::Fixed(token) => Ok(Some(token.clone().into_bytes())),
            Token::File(path) => {
                let path = path.clone();
                let read = move || match std::fs::read_to_string(&path) {
                    Ok(token) => Ok(Some(token.trim().as_bytes().to_vec())),
                    Err(e) => Err(format!("cannot read the token file {}: {e}", path.display())),
                };
                tokio::task::spawn_blocking(read).await.map_err(|e| e.to_string())?
            }
        }
    }

    /// The token in answer to AUTH_CHALLENGE (PIP-55).
    pub async fn data(&self) -> Result<AuthData, String> {
        let token = self.token().await?;
        Ok(AuthData { auth_method_name: token.as_ref().map(|_| "token".into()), auth_data: token })
    }

    /// Opens a TCP connection, with TLS on it where the URL says so.
    pub async fn dial(&self, url: &BrokerUrl) -> Result<(Reader, Writer), String> {
        let tcp =
            TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|e| format!("cannot connect: {e}"))?;
        tcp.set_nodelay(true).map_err(|e| e.to_string())?;
        if !url.tls {
            let (reader, writer) = tcp.into_split();
            return Ok((Box::new(reader), Box::new(writer)));
        }
        let name = ServerName::try_from(url.host.clone()).map_err(|e| format!("`{}`: {e}", url.host))?;
        let tls = self.0.tls.connect(name, tcp).await.map_err(|e| format!("TLS handshake failed: {e}"))?;
        let (reader, writer) = tokio::io::split(tls);
        Ok((Box::new(reader), Box::new(writer)))
    }
}
