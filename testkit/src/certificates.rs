//! Certificates for tests, made by the openssl of the distribution.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An authority that signs what tests need, in a folder of theirs.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    name: String,
}

/// What an authority has signed, as files in PEM.
#[derive(Debug)]
pub struct Issued {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Both in one file, as clients are given them.
    pub both: PathBuf,
}

const CURVE: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

impl Authority {
    /// A new one, of that name.
    pub fn new(folder: &Path, name: &str) -> Self {
        let authority = Self { folder: folder.to_owned(), name: name.to_owned() };
        let subject = format!("/CN={name}");
        let mut arguments = vec!["req", "-x509", "-days", "2", "-subj", &subject];
        arguments.extend(CURVE);
        let (root, key) = (authority.root(), authority.file("key"));
        openssl(&arguments, &[("-out", &root), ("-keyout", &key)]);
        authority
    }

    /// Its own certificate, which is to be trusted.
    pub fn root(&self) -> PathBuf {
        self.file("root.pem")
    }

    /// A certificate for these names, as `DNS:localhost,IP:127.0.0.1`, for servers and clients.
    pub fn issue(&self, subject: &str, names: &str) -> Issued {
        let file = |end: &str| self.file(&format!("{subject}.{end}"));
        let (cert, key, both, request, extensions) =
            (file("pem"), file("key"), file("both.pem"), file("request"), file("extensions"));
        let text = format!("subjectAltName={names}\nbasicConstraints=critical,CA:FALSE\n");
        std::fs::write(&extensions, text).expect("a file");
        let name = format!("/CN={subject}");
        let mut arguments = vec!["req", "-new", "-subj", &name];
        arguments.extend(CURVE);
        openssl(&arguments, &[("-out", &request), ("-keyout", &key)]);
        let (root, root_key) = (self.root(), self.file("key"));
        openssl(
            &["x509", "-req", "-days", "2", "-CAcreateserial"],
            &[("-in", &request), ("-out", &cert), ("-CA", &root), ("-CAkey", &root_key), ("-extfile", &extensions)],
        );
        let read = |path: &PathBuf| std::fs::read_to_string(path).expect("a file of openssl");
        std::fs::write(&both, format!("{}{}", read(&cert), read(&key))).expect("a file");
        Issued { cert, key, both }
    }

    fn file(&self, end: &str) -> PathBuf {
        self.folder.join(format!("{}.{end}", self.name))
    }
}

fn openssl(arguments: &[&str], files: &[(&str, &PathBuf)]) {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::null());
    for (option, path) in files {
        command.arg(option).arg(path);
    }
    let made = command.output().expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
