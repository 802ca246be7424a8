//! The secrets of endpoints and what is signed with them, after the convention of Standard Webhooks: HMAC-SHA-256 over the
//! message's id, a moment in seconds and the body, with dots between.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;

/// Bytes of a new secret; the convention asks for 24 to 64.
const SECRET_BYTES: usize = 32;

/// What an endpoint's owner and the registry share.
pub(crate) struct WebhookSecret(SecretSlice<u8>);

impl WebhookSecret {
    pub(super) fn generate() -> Self {
        Self::from_bytes(rand::random::<[u8; SECRET_BYTES]>().to_vec())
    }

    /// What was sealed once.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// As its owner gets it, once.
    pub(crate) fn expose(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.bytes()))
    }
}

/// The header `webhook-signature`: one signature for each secret, with spaces between.
pub(super) fn signature(secrets: &[WebhookSecret], id: &str, at_s: u64, body: &str) -> String {
    let one = |secret: &WebhookSecret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes()).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{at_s}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    secrets.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_convention_is_signed_as_it_says() {
        // Of the convention's own library.
        let secret = WebhookSecret::from_bytes(STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        let signed = signature(&[secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_signs_and_a_sealed_one_signs_the_same_again() {
        let (one, other) = (WebhookSecret::generate(), WebhookSecret::generate());
        let again = WebhookSecret::from_bytes(one.bytes().to_vec());
        let (alone, both) = (signature(&[again], "evt_1", 5, "{}"), signature(&[one, other], "evt_1", 5, "{}"));
        let parts: Vec<_> = both.split(' ').collect();
        assert_eq!((parts.len(), parts[0]), (2, alone.as_str()));
        assert!(parts.iter().all(|part| part.starts_with("v1,")) && parts[0] != parts[1]);
    }
}
