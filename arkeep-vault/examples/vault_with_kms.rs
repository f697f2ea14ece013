//! A key management service guards the ring.
//!
//! The service holds one key that never leaves it, and is asked twice: to wrap the ring key when
//! the ring is made, and to unwrap it at each start. Its interface here is that of HashiCorp Vault's
//! transit engine; a small server in this file stands in for it.
//!
//! ```text
//! cargo run -p arkeep-vault --example vault_with_kms
//! ```

use std::error::Error;
use std::sync::Arc;

use arkeep_vault::{Binding, ExposeSecret, RingError, RingFile, Sealer, SecretString, Vault};
use transit::Transit;

fn main() -> Result<(), Box<dyn Error>> {
    let service = stand_in::start(SecretString::from("s.token"))?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("vault.ring");
    let guard = |token: &str| Arc::new(Transit::new(service, "arkeep", SecretString::from(token)));

    // The first start makes the ring, every other start opens it.
    RingFile::create_new(&path, guard("s.token"), 0)?;
    let vault = Vault::new(RingFile::open(&path, guard("s.token"))?);

    let place = Binding::new("destinations", "credentials", "018f3c5e");
    let sealed = vault.seal_str(&SecretString::from("hunter2"), &place)?;
    assert_eq!(vault.open_str(&sealed, &place)?.expose_secret(), "hunter2");

    // A service that refuses us is not a wrong key: try again, or ask its operator.
    let refused = RingFile::open(&path, guard("s.expired"));
    assert!(matches!(refused, Err(RingError::Unwrap { .. })));

    report("the ring is guarded by a service, and a secret made its way through it");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example tells what it did")]
fn report(text: &str) {
    println!("{text}");
}

/// The guard: what a product would have of its own.
mod transit {
    use std::net::SocketAddr;

    use arkeep_vault::secrecy::zeroize::Zeroizing;
    use arkeep_vault::{
        ExposeSecret, KeyWrapper, SecretSlice, SecretString, UnwrapError, WrapError,
    };
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::http;

    #[derive(Debug)]
    pub(super) struct Transit {
        service: SocketAddr,
        key: String,
        kind: String,
        token: SecretString,
    }

    impl Transit {
        pub(super) fn new(service: SocketAddr, key: &str, token: SecretString) -> Self {
            Self {
                service,
                key: key.to_owned(),
                kind: format!("transit:{key}"),
                token,
            }
        }

        /// Status, and the field of the answer's data.
        fn ask(&self, verb: &str, field: &str, body: &Value) -> Result<(u16, String), Failure> {
            let path = format!("/v1/transit/{verb}/{}", self.key);
            let token = self.token.expose_secret();
            let (status, answer) = http::post(self.service, &path, token, &body.to_string())?;
            let answer: Value = serde_json::from_str(&answer)?;
            let value = answer.pointer(&format!("/data/{field}"));
            let value = value.and_then(Value::as_str).unwrap_or_default();
            Ok((status, value.to_owned()))
        }
    }

    type Failure = Box<dyn std::error::Error + Send + Sync>;

    impl KeyWrapper for Transit {
        fn kind(&self) -> &str {
            &self.kind
        }

        fn wrap(&self, ring_key: &SecretSlice<u8>) -> Result<Vec<u8>, WrapError> {
            let plaintext = Zeroizing::new(STANDARD.encode(ring_key.expose_secret()));
            let body = json!({ "plaintext": *plaintext });
            match self.ask("encrypt", "ciphertext", &body) {
                Ok((200, ciphertext)) => Ok(ciphertext.into_bytes()),
                Ok((status, _)) => Err(WrapError::Unavailable {
                    source: format!("the service answered {status}").into(),
                }),
                Err(source) => Err(WrapError::Unavailable { source }),
            }
        }

        fn unwrap(&self, wrapped: &[u8]) -> Result<SecretSlice<u8>, UnwrapError> {
            let ciphertext = str::from_utf8(wrapped).map_err(|_| UnwrapError::Rejected)?;
            let body = json!({ "ciphertext": ciphertext });
            match self.ask("decrypt", "plaintext", &body) {
                Ok((200, plaintext)) => STANDARD
                    .decode(&*Zeroizing::new(plaintext))
                    .map(SecretSlice::from)
                    .map_err(|_| UnwrapError::Rejected),
                // The service tried, and the ciphertext is not its own.
                Ok((400, _)) => Err(UnwrapError::Rejected),
                Ok((status, _)) => Err(UnwrapError::Unavailable {
                    source: format!("the service answered {status}").into(),
                }),
                Err(source) => Err(UnwrapError::Unavailable { source }),
            }
        }
    }
}

/// As much of HTTP as this example needs. A product takes the client that it has.
mod http {
    use std::io::{self, Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    pub(super) fn post(
        to: SocketAddr,
        path: &str,
        token: &str,
        body: &str,
    ) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {to}\r\nX-Vault-Token: {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len(),
        )?;
        let mut answer = String::new();
        stream.take(LONGEST).read_to_string(&mut answer)?;
        let nonsense = || io::Error::other("the answer is not HTTP");
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(nonsense)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.ok_or_else(nonsense)?, body.to_owned()))
    }

    const PATIENCE: Duration = Duration::from_secs(10);
    const LONGEST: u64 = 64 << 10;
}

/// The service, as far as it is asked here.
mod stand_in {
    use std::collections::BTreeMap;
    use std::error::Error;
    use std::io::{self, BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::thread;

    use arkeep_vault::{ExposeSecret, KeyEncryptionKey, KeyWrapper, SecretString};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    /// Serves until the process ends.
    pub(super) fn start(token: SecretString) -> Result<SocketAddr, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let mut key = vec![0; 32];
        getrandom::fill(&mut key)?;
        let key = KeyEncryptionKey::from_bytes(&key.into())?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is its own loss.
                let _gone = serve(stream, &key, &token);
            }
        });
        Ok(address)
    }

    fn serve(
        mut stream: TcpStream,
        key: &KeyEncryptionKey,
        token: &SecretString,
    ) -> io::Result<()> {
        let (path, headers, body) = request(&stream)?;
        let field = |name: &str| {
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            body.get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let known = headers.get("x-vault-token").map(String::as_str) == Some(token.expose_secret());
        let data = match path.as_str() {
            _ if !known => Err(403),
            "/v1/transit/encrypt/arkeep" => encrypt(key, &field("plaintext")),
            "/v1/transit/decrypt/arkeep" => decrypt(key, &field("ciphertext")),
            _ => Err(404),
        };
        let (status, answer) = match data {
            Ok(data) => (200, json!({ "data": data })),
            Err(status) => (status, json!({ "errors": [] })),
        };
        let answer = answer.to_string();
        write!(
            stream,
            "HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            answer.len(),
        )
    }

    fn encrypt(key: &KeyEncryptionKey, plaintext: &str) -> Result<Value, u16> {
        let plaintext = STANDARD.decode(plaintext).map_err(|_| 400u16)?;
        let wrapped = key.wrap(&plaintext.into()).map_err(|_| 500u16)?;
        Ok(json!({ "ciphertext": format!("vault:v1:{}", STANDARD.encode(wrapped)) }))
    }

    fn decrypt(key: &KeyEncryptionKey, ciphertext: &str) -> Result<Value, u16> {
        let digits = ciphertext.strip_prefix("vault:v1:").ok_or(400u16)?;
        let wrapped = STANDARD.decode(digits).map_err(|_| 400u16)?;
        let plaintext = key.unwrap(&wrapped).map_err(|_| 400u16)?;
        Ok(json!({ "plaintext": STANDARD.encode(plaintext.expose_secret()) }))
    }

    type Request = (String, BTreeMap<String, String>, Vec<u8>);

    fn request(stream: &TcpStream) -> io::Result<Request> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let length = headers
            .get("content-length")
            .and_then(|text| text.parse().ok());
        let mut body = vec![0; length.unwrap_or(0).min(64 << 10)];
        reader.read_exact(&mut body)?;
        Ok((path, headers, body))
    }
}

#[cfg(test)]
mod tests {
    use arkeep_vault::key_wrapper_conformance;

    use super::*;

    key_wrapper_conformance!(|| {
        let service = stand_in::start(SecretString::from("t")).unwrap();
        Transit::new(service, "arkeep", SecretString::from("t"))
    });

    #[test]
    fn a_ring_goes_from_a_key_file_to_the_service() -> Result<(), Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("vault.ring");
        let key = arkeep_vault::KeyEncryptionKey::generate_file(directory.path().join("key"))?;
        let ring = RingFile::create_new(&path, Arc::new(key), 0)?;
        let service = stand_in::start(SecretString::from("t"))?;
        let transit = Arc::new(Transit::new(service, "arkeep", SecretString::from("t")));

        ring.begin_rekey(&*transit)?;
        ring.finish_rekey(transit.clone())?;

        assert_eq!(ring.guards(), ["transit:arkeep"]);
        assert_eq!(RingFile::open(&path, transit)?.keys(), ring.keys());
        Ok(())
    }

    #[test]
    fn the_example_does_what_it_says() -> Result<(), Box<dyn Error>> {
        main()
    }
}
