//! What JSON Web Tokens are verified with.

use std::fmt;

use jsonwebtoken::{DecodingKey, errors::Error};

use super::{Algorithm, digest_of, signature};

/// Of a secret for HS256: as many as its digest has, <https://www.rfc-editor.org/rfc/rfc7518#section-3.2>.
const LEAST_SECRET: usize = 32;

/// A key with the only algorithm that it is for.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    decoding: DecodingKey,
    /// Of the file, to tell keys apart.
    digest: [u8; 32],
}

impl Key {
    /// From a file's bytes; the error says what is wrong with them, and shows none.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, String> {
        signature::install();
        let decoding = match algorithm {
            Algorithm::Hs256 => secret(bytes)?,
            Algorithm::Rs256 => public_key(bytes)?,
        };
        Ok(Key { algorithm, decoding, digest: digest_of(bytes) })
    }

    /// What a key file must hold.
    pub fn expected(algorithm: Algorithm) -> String {
        match algorithm {
            Algorithm::Hs256 => format!("a file with a secret of at least {LEAST_SECRET} bytes"),
            Algorithm::Rs256 => "a file with an RSA public key as PEM (`-----BEGIN PUBLIC KEY-----`)".to_owned(),
        }
    }

    /// As `alg` of a token's header has it.
    pub fn algorithm(&self) -> jsonwebtoken::Algorithm {
        match self.algorithm {
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        }
    }

    pub fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

fn secret(bytes: &[u8]) -> Result<DecodingKey, String> {
    // An editor, or `echo`, ends a file with a line break, which nobody means.
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if bytes.len() < LEAST_SECRET {
        return Err(format!("this secret is shorter than {LEAST_SECRET} bytes"));
    }
    Ok(DecodingKey::from_secret(bytes))
}

fn public_key(bytes: &[u8]) -> Result<DecodingKey, String> {
    if String::from_utf8_lossy(bytes).contains("PRIVATE KEY") {
        return Err("this is a private key: it stays with whoever issues the tokens".to_owned());
    }
    DecodingKey::from_rsa_pem(bytes).map_err(|_: Error| "this is not an RSA public key as PEM".to_owned())
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (self.algorithm, self.digest) == (other.algorithm, other.digest)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
