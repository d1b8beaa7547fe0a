use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::Request;

/// Access key and secret of a cluster with ACL.
#[derive(Clone)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
}

impl Credentials {
    /// Adds the access key and the signature: Base64 of HMAC-SHA1 over all field values in the order of their names,
    /// followed by the body (`AclUtils.java`, `AclSigner.java`).
    pub fn sign(&self, request: &mut Request) {
        request.fields.insert("AccessKey", self.access_key.clone());
        request.fields.remove("Signature");
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(self.secret_key.as_bytes()) else { return };
        for value in request.fields.values() {
            mac.update(value.as_bytes());
        }
        mac.update(&request.body);
        request.fields.insert("Signature", STANDARD.encode(mac.finalize().into_bytes()));
    }
}

impl fmt::Debug for Credentials {
    /// Never shows the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_goes_over_the_values_by_name_and_the_body() {
        let credentials = Credentials { access_key: "ak".into(), secret_key: "secret".into() };
        let mut request = Request::new(11).field("topic", "orders").field("queueId", 3).body(&b"body"[..]);
        credentials.sign(&mut request);
        // printf 'ak3ordersbody' | openssl dgst -sha1 -hmac secret -binary | base64
        assert_eq!(request.fields["Signature"], "i7J+Dtk+w0m/XF+k0nQNDkwfD5s=");
        assert_eq!(request.fields["AccessKey"], "ak");
        let first = request.fields["Signature"].clone();
        credentials.sign(&mut request);
        assert_eq!(request.fields["Signature"], first, "signing twice signs the same");
        assert!(!format!("{credentials:?}").contains("secret\""));
    }
}
