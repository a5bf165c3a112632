//! Whose certificates count where this host is a client of TLS. It connects to nothing
//! and knows no setting but the name of the one that it is asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why there is nothing to check a server's certificate with.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The file cannot be read, or is no PEM.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file holds no certificate that can be used.
    #[error("{} holds none", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// No file was named, and the system has none.
    #[error("the system has none; name a file in {0}")]
    System(&'static str),
    /// The library cannot do what it is asked for.
    #[error("{0}")]
    Library(#[from] rustls::Error),
}

/// The certificates in a file of PEM, or without one those of the system. `setting` is what
/// names the file.
///
/// # Errors
/// [`RootsError`]: there are none.
pub fn roots(file: Option<&Path>, setting: &'static str) -> Result<RootCertStore, RootsError> {
    let mut store = RootCertStore::empty();
    let certificates = match file {
        Some(file) => CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| RootsError::Unreadable {
                path: file.to_owned(),
                reason: error.to_string(),
            })?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = store.add_parsable_certificates(certificates);
    match (added, file) {
        (0, Some(file)) => Err(RootsError::Empty {
            path: file.to_owned(),
        }),
        (0, None) => Err(RootsError::System(setting)),
        _ => Ok(store),
    }
}

/// A client that checks the chain and the name of a server that speaks HTTP/1.1
/// (RFC 7301, RFC 9525); it has no certificate of its own. As for [`roots`].
///
/// # Errors
/// [`RootsError`]: there is nothing to check with.
pub fn http_client(file: Option<&Path>, setting: &'static str) -> Result<ClientConfig, RootsError> {
    let mut config = client(roots(file, setting)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A client that trusts these and names no protocol.
///
/// # Errors
/// The library cannot do that.
pub fn client(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let said = |file: &Path| roots(Some(file), "X_CA_FILE").unwrap_err().to_string();
        assert!(said(&file).contains("ca.pem: "), "{}", said(&file));
        for text in [
            "",
            "no certificate",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&file, text).unwrap();
            assert!(said(&file).contains("ca.pem holds none"), "{}", said(&file));
        }
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
        assert!(said(&file).contains("ca.pem: "), "{}", said(&file));
    }
}
