//! Signatures of plugin files: Ed25519 (RFC 8032) over the service's name, a sequence
//! number and the component's digest, so that a file passes for no other service and
//! an old one does not come back. It reads keys and checks; it knows no folder and no
//! slot.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pem::{EncodeConfig, LineEnding, Pem};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Largest signature file, bytes.
const MAX_SIZE: usize = 4096;

/// What the signed text begins with: a signature made for anything else never fits.
const CONTEXT: &str = "lockgate plugin signature, version 1";

const PUBLIC: &str = "PUBLIC KEY";
const PRIVATE: &str = "PRIVATE KEY";

/// Why a file counts as unsigned. Each is a sentence for whoever dropped it in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// There is no `.wasm.sig` beside the file.
    #[error("it has no signature: put the .wasm.sig of `lockgate sign` beside it")]
    Missing,
    /// Not what `lockgate sign` writes.
    #[error("its signature file is not usable: {0}")]
    Malformed(String),
    /// Signed for another service.
    #[error("it is signed for service {0:?}")]
    OtherService(String),
    /// The component is not the one that was signed.
    #[error("its signature is of another file, with the digest {0}")]
    OtherFile(String),
    /// Another key, or an altered signature.
    #[error("its signature does not verify with the configured public key")]
    Forged,
    /// The service has accepted a later one.
    #[error("its sequence number {given} is lower than {accepted}, which was accepted before")]
    Superseded {
        /// Of the file.
        given: u64,
        /// The highest that the service has accepted.
        accepted: u64,
    },
}

/// Why a key cannot be used. It never shows the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PEM (RFC 7468), or with another label.
    #[error("it is not a PEM file with one {0}")]
    Pem(&'static str),
    /// Not an Ed25519 key (RFC 8410).
    #[error("it holds no Ed25519 key")]
    Kind,
}

/// The contents of a signature file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The service that the component is for, with hyphens.
    pub service: String,
    /// Never lower than the one before.
    pub sequence: u64,
    /// Of the component, 64 lower-case hex digits.
    pub sha256: String,
    /// Base64 (RFC 4648 section 4) of the 64 bytes.
    signature: String,
}

impl Signature {
    /// Reads a signature file. It proves nothing before [`PublicKey::check`].
    ///
    /// # Errors
    /// [`Unsigned::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Signature, Unsigned> {
        if bytes.len() > MAX_SIZE {
            let problem = format!("it has more than {MAX_SIZE} bytes");
            return Err(Unsigned::Malformed(problem));
        }
        serde_json::from_slice(bytes).map_err(|error| Unsigned::Malformed(error.to_string()))
    }

    /// The text of a signature file.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// Checks signatures.
#[derive(Clone)]
pub struct PublicKey(ParsedPublicKey);

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PublicKey").finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Reads a PEM file with a SubjectPublicKeyInfo (RFC 8410 section 4), as
    /// `lockgate keygen` and `openssl pkey -pubout` write it.
    ///
    /// # Errors
    /// [`KeyError`]: it is not an Ed25519 key in this form.
    pub fn from_pem(text: &[u8]) -> Result<PublicKey, KeyError> {
        let der = contents(text, PUBLIC)?;
        let key = ParsedPublicKey::new(&ED25519, der.as_slice());
        Ok(PublicKey(key.map_err(|_| KeyError::Kind)?))
    }

    /// Checks the signature file of a component with this digest for this service, but
    /// not whether a later one was accepted. Gives the sequence number.
    ///
    /// # Errors
    /// [`Unsigned`], the first reason found.
    pub fn check(
        &self,
        service: &str,
        digest: &str,
        signature: Option<&[u8]>,
    ) -> Result<u64, Unsigned> {
        let signature = Signature::parse(signature.ok_or(Unsigned::Missing)?)?;
        let bytes = STANDARD
            .decode(&signature.signature)
            .map_err(|_| Unsigned::Malformed("it is not base64".to_owned()))?;
        let text = signed_text(&signature.service, signature.sequence, &signature.sha256);
        self.0
            .verify_sig(text.as_bytes(), &bytes)
            .map_err(|_| Unsigned::Forged)?;
        // Believed only now.
        if signature.service != service {
            return Err(Unsigned::OtherService(signature.service));
        }
        if signature.sha256 != digest {
            return Err(Unsigned::OtherFile(signature.sha256));
        }
        Ok(signature.sequence)
    }
}

/// Makes signatures; for the command line only, the host has no private key.
pub struct PrivateKey(Ed25519KeyPair);

impl PrivateKey {
    /// Reads a PEM file in PKCS #8 (RFC 5958), as `lockgate keygen` and
    /// `openssl genpkey -algorithm ed25519` write it.
    ///
    /// # Errors
    /// [`KeyError`]: it is not an Ed25519 key in this form.
    pub fn from_pem(text: &[u8]) -> Result<PrivateKey, KeyError> {
        let der = Zeroizing::new(contents(text, PRIVATE)?.to_vec());
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der);
        Ok(PrivateKey(pair.map_err(|_| KeyError::Kind)?))
    }

    /// Signs a component's digest for one service.
    pub fn sign(&self, service: &str, sequence: u64, digest: &str) -> Signature {
        let text = signed_text(service, sequence, digest);
        Signature {
            service: service.to_owned(),
            sequence,
            sha256: digest.to_owned(),
            signature: STANDARD.encode(self.0.sign(text.as_bytes())),
        }
    }
}

/// A new key pair in PEM: the private one, then the public one.
///
/// # Errors
/// [`KeyError::Kind`] if the system gives no random bytes.
pub fn generate() -> Result<(Zeroizing<String>, String), KeyError> {
    let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Kind)?;
    let private = pair.to_pkcs8v1().map_err(|_| KeyError::Kind)?;
    let public = pair.public_key().as_der().map_err(|_| KeyError::Kind)?;
    let (private, public) = (
        as_pem(PRIVATE, private.as_ref()),
        as_pem(PUBLIC, public.as_ref()),
    );
    Ok((Zeroizing::new(private), public))
}

fn as_pem(label: &str, der: &[u8]) -> String {
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new(label, der), lines)
}

/// The one PEM block with this label.
fn contents(text: &[u8], label: &'static str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let blocks = pem::parse_many(text).map_err(|_| KeyError::Pem(label))?;
    match blocks.as_slice() {
        [one] if one.tag() == label => Ok(Zeroizing::new(one.contents().to_vec())),
        _ => Err(KeyError::Pem(label)),
    }
}

/// What is signed. No field can hold a line break, so no two triples give one text.
fn signed_text(service: &str, sequence: u64, digest: &str) -> String {
    format!(
        "{CONTEXT}\n{}\n{sequence}\n{digest}\n",
        service.escape_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "aa11";

    fn pair() -> (PrivateKey, PublicKey) {
        let (private, public) = generate().unwrap();
        let private = PrivateKey::from_pem(private.as_bytes()).unwrap();
        (private, PublicKey::from_pem(public.as_bytes()).unwrap())
    }

    #[test]
    fn what_was_signed_passes_and_nothing_else() {
        let (private, public) = pair();
        let signature = private.sign("probe", 7, DIGEST);
        let text = signature.to_text();
        let check = |text: &str| public.check("probe", DIGEST, Some(text.as_bytes()));
        assert_eq!(check(&text), Ok(7));
        assert_eq!(public.check("probe", DIGEST, None), Err(Unsigned::Missing));
        assert_eq!(
            public.check("other", DIGEST, Some(text.as_bytes())),
            Err(Unsigned::OtherService("probe".to_owned()))
        );
        assert_eq!(
            public.check("probe", "bb", Some(text.as_bytes())),
            Err(Unsigned::OtherFile(DIGEST.to_owned()))
        );
        for altered in [
            text.replace("probe", "other"),
            text.replace(": 7", ": 8"),
            text.replace(DIGEST, "aa12"),
        ] {
            assert_ne!(altered, text);
            assert_eq!(check(&altered), Err(Unsigned::Forged));
        }
        let (_, stranger) = pair();
        let verdict = stranger.check("probe", DIGEST, Some(text.as_bytes()));
        assert_eq!(verdict, Err(Unsigned::Forged));
    }

    #[test]
    fn what_is_no_signature_file_is_said_to_be_none() {
        let (private, public) = pair();
        let text = private.sign("probe", 7, DIGEST).to_text();
        let long = " ".repeat(MAX_SIZE + 1);
        for wrong in [
            "",
            "{}",
            "[]",
            "not json",
            &text.replace("\"sequence\"", "\"more\": 1, \"sequence\""),
            &text.replace(": 7", ": -7"),
            &text.replace(": 7", ": \"7\""),
            &long,
        ] {
            let verdict = public.check("probe", DIGEST, Some(wrong.as_bytes()));
            assert!(matches!(verdict, Err(Unsigned::Malformed(_))), "{wrong:?}");
        }
    }

    #[test]
    fn keys_are_ed25519_in_pem() {
        let (private, public) = generate().unwrap();
        let ec = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n";
        assert_eq!(
            PublicKey::from_pem(ec.as_bytes()).unwrap_err(),
            KeyError::Kind
        );
        let twice = format!("{public}{public}");
        for wrong in ["", "text", private.as_str(), &twice] {
            let error = PublicKey::from_pem(wrong.as_bytes()).unwrap_err();
            assert_eq!(error, KeyError::Pem(PUBLIC));
        }
        assert!(PrivateKey::from_pem(public.as_bytes()).is_err());
        assert!(!format!("{:?}", PublicKey::from_pem(public.as_bytes())).contains('['));
    }
}
