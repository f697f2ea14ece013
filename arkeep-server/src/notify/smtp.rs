//! Handing a mail to a server: as much of SMTP (RFC 5321) as that takes.
//!
//! A client of our own, because the one thing that matters here is where it connects to and that it never
//! goes on without TLS: the connection comes from the guarded client, the certificates are judged as for
//! HTTPS, and what a server says is read in bounded lines and shown to nobody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arkeep_core::{ExposeSecret as _, SecretString};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::store::channels::{EmailConfig, MailTls};

/// A mail was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailError {
    /// It answers, and not with what comes next.
    #[error("the mail server answers with code {0}")]
    Code(u16),
    /// It offers no STARTTLS, and nothing is said without TLS.
    #[error("the mail server offers no STARTTLS")]
    NoTls,
    /// Its certificate is not for this name or not trusted, or it speaks no TLS.
    #[error("no TLS can be agreed upon with the mail server")]
    Tls(#[source] io::Error),
    /// It wants no password, or in a way that is not known here.
    #[error("the mail server does not take a password")]
    NoAuth,
    /// What it says is no SMTP, or too much of it.
    #[error("the mail server is not understood")]
    Speech,
    /// The connection ended.
    #[error("the mail server hangs up")]
    Gone(#[source] io::Error),
}

/// Hands `mail` over a connection that was just made.
pub(super) async fn hand_over(
    stream: TcpStream,
    tls: &Arc<ClientConfig>,
    config: &EmailConfig,
    password: Option<&SecretString>,
    mail: &str,
) -> Result<(), MailError> {
    let own = stream.local_addr().map_err(MailError::Gone)?;
    let mut talk = Talk::over(Box::new(stream));
    if config.tls == MailTls::Implicit {
        talk = talk.secured(tls, &config.host).await?;
    }
    talk.expect(220).await?;
    let hello = hello(own);
    let mut offers = talk.ask(&hello, 250).await?;
    if config.tls == MailTls::Starttls {
        if !offers.iter().any(|offer| offer == "STARTTLS") {
            return Err(MailError::NoTls);
        }
        talk.ask("STARTTLS", 220).await?;
        talk = talk.secured(tls, &config.host).await?;
        // RFC 3207 §4.2: what was offered before counts no more.
        offers = talk.ask(&hello, 250).await?;
    }
    if let (Some(user), Some(password)) = (&config.username, password) {
        talk.log_in(&offers, user, password).await?;
    }
    talk.ask(&format!("MAIL FROM:<{}>", config.from), 250)
        .await?;
    for to in &config.to {
        talk.ask(&format!("RCPT TO:<{to}>"), 250).await?;
    }
    talk.ask("DATA", 354).await?;
    // No line of it begins with a full stop: headers do not, and the body is base64.
    talk.say(mail).await?;
    talk.ask(".", 250).await?;
    // It is theirs now, however they part.
    let _ = talk.say("QUIT\r\n").await;
    Ok(())
}

/// RFC 5321 §4.1.3: a machine without a name that others know shows its address.
fn hello(own: SocketAddr) -> String {
    match own {
        SocketAddr::V4(own) => format!("EHLO [{}]", own.ip()),
        SocketAddr::V6(own) => format!("EHLO [IPv6:{}]", own.ip()),
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

struct Talk(BufReader<Box<dyn Duplex>>);

impl Talk {
    fn over(stream: Box<dyn Duplex>) -> Self {
        Self(BufReader::new(stream))
    }

    async fn secured(self, tls: &Arc<ClientConfig>, host: &str) -> Result<Self, MailError> {
        // What was said before the handshake could be anybody's, and would be taken for theirs.
        if !self.0.buffer().is_empty() {
            return Err(MailError::Speech);
        }
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other);
        let name = name.map_err(MailError::Tls)?;
        let connector = TlsConnector::from(Arc::clone(tls));
        let secured = connector.connect(name, self.0.into_inner()).await;
        Ok(Self::over(Box::new(secured.map_err(MailError::Tls)?)))
    }

    async fn log_in(
        &mut self,
        offers: &[String],
        user: &str,
        password: &SecretString,
    ) -> Result<(), MailError> {
        let ways: Vec<_> = offers
            .iter()
            .filter_map(|offer| offer.strip_prefix("AUTH "))
            .flat_map(str::split_whitespace)
            .collect();
        let password = password.expose_secret();
        if ways.contains(&"PLAIN") {
            let both = Zeroizing::new(format!("\0{user}\0{password}"));
            let line = Zeroizing::new(format!("AUTH PLAIN {}", STANDARD.encode(both.as_bytes())));
            self.ask(&line, 235).await?;
        } else if ways.contains(&"LOGIN") {
            self.ask("AUTH LOGIN", 334).await?;
            self.ask(&STANDARD.encode(user), 334).await?;
            let line = Zeroizing::new(STANDARD.encode(password));
            self.ask(&line, 235).await?;
        } else {
            return Err(MailError::NoAuth);
        }
        Ok(())
    }

    async fn say(&mut self, text: &str) -> Result<(), MailError> {
        let stream = self.0.get_mut();
        stream
            .write_all(text.as_bytes())
            .await
            .map_err(MailError::Gone)?;
        stream.flush().await.map_err(MailError::Gone)
    }

    async fn ask(&mut self, line: &str, wanted: u16) -> Result<Vec<String>, MailError> {
        let line = Zeroizing::new(format!("{line}\r\n"));
        self.say(&line).await?;
        self.expect(wanted).await
    }

    /// Reads an answer, and returns what its lines say.
    async fn expect(&mut self, wanted: u16) -> Result<Vec<String>, MailError> {
        let mut said = Vec::new();
        while said.len() < MOST_LINES {
            let mut line = Vec::new();
            let mut bounded = (&mut self.0).take(LONGEST_LINE);
            bounded
                .read_until(b'\n', &mut line)
                .await
                .map_err(MailError::Gone)?;
            if line.is_empty() {
                return Err(MailError::Gone(io::ErrorKind::UnexpectedEof.into()));
            }
            let line = String::from_utf8(line).map_err(|_| MailError::Speech)?;
            let line = line.strip_suffix('\n').ok_or(MailError::Speech)?.trim_end();
            let (code, rest) = line.split_at_checked(3).ok_or(MailError::Speech)?;
            let code: u16 = code.parse().map_err(|_| MailError::Speech)?;
            said.push(rest.get(1..).unwrap_or_default().to_ascii_uppercase());
            match rest.as_bytes().first() {
                Some(b'-') => {}
                // RFC 5321 §4.3.2: 251 says that it is passed on.
                None | Some(b' ') if code == wanted || (wanted, code) == (250, 251) => {
                    return Ok(said);
                }
                None | Some(b' ') => return Err(MailError::Code(code)),
                Some(_) => return Err(MailError::Speech),
            }
        }
        Err(MailError::Speech)
    }
}

const LONGEST_LINE: u64 = 2_048;
const MOST_LINES: usize = 100;

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    type Fallible<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

    /// A mail server of this name, and a client that trusts it.
    struct Stage {
        acceptor: TlsAcceptor,
        trusting: Arc<ClientConfig>,
        listener: TcpListener,
    }

    impl Stage {
        async fn new(name: &str) -> Fallible<Self> {
            let key = rcgen::KeyPair::generate()?;
            let certificate =
                rcgen::CertificateParams::new([name.to_owned()])?.self_signed(&key)?;
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut roots = RootCertStore::empty();
            roots.add(certificate.der().clone())?;
            let trusting = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            let key = PrivateKeyDer::try_from(key.serialize_der())?;
            let own = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)?;
            Ok(Self {
                acceptor: TlsAcceptor::from(Arc::new(own)),
                trusting: Arc::new(trusting),
                listener: TcpListener::bind("127.0.0.1:0").await?,
            })
        }

        /// Hands a mail over to a server that follows a script, and returns what that heard.
        async fn play(
            &self,
            tls: MailTls,
            script: &[&str],
        ) -> Fallible<(Result<(), MailError>, Vec<String>)> {
            let config = EmailConfig {
                host: "mail.example".to_owned(),
                port: 25,
                tls,
                username: Some("ada".to_owned()),
                from: "arkeep@example.org".to_owned(),
                to: vec!["ada@example.org".to_owned()],
            };
            let script: Vec<_> = script.iter().map(|line| (*line).to_owned()).collect();
            let stream = TcpStream::connect(self.listener.local_addr()?).await?;
            let (accepted, _) = self.listener.accept().await?;
            let server = tokio::spawn(serve(accepted, self.acceptor.clone(), script));
            let password = SecretString::from("hunter2");
            let sent = hand_over(
                stream,
                &self.trusting,
                &config,
                Some(&password),
                "Subject: x\r\n\r\neA==\r\n",
            );
            let sent = sent.await;
            Ok((sent, server.await?))
        }
    }

    /// At `tls` it makes a handshake, at `<` it hears a line, at `.` a mail; the rest it says.
    async fn serve(stream: TcpStream, acceptor: TlsAcceptor, script: Vec<String>) -> Vec<String> {
        let mut stream: Box<dyn Duplex> = Box::new(stream);
        let mut heard = Vec::new();
        for step in script {
            match step.as_str() {
                "tls" => match acceptor.accept(stream).await {
                    Ok(secured) => {
                        stream = Box::new(secured);
                        heard.push("(tls)".to_owned());
                    }
                    Err(_) => return heard,
                },
                "<" | "." => {
                    let end: &[u8] = if step == "<" { b"\r\n" } else { b"\r\n.\r\n" };
                    let mut line = Vec::new();
                    while !line.ends_with(end) {
                        match stream.read_u8().await {
                            Ok(byte) => line.push(byte),
                            Err(_) => return heard,
                        }
                    }
                    heard.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                }
                said => {
                    let line = format!("{said}\r\n");
                    if stream.write_all(line.as_bytes()).await.is_err() {
                        return heard;
                    }
                    let _ = stream.flush().await;
                }
            }
        }
        heard
    }

    const REST: [&str; 13] = [
        "<",
        "250-mail.example\r\n250 AUTH LOGIN PLAIN",
        "<",
        "235 welcome",
        "<",
        "250 ok",
        "<",
        "251 passed on",
        "<",
        "354 go on",
        ".",
        "250 taken",
        "<",
    ];
    const WHOLE: [&str; 7] = [
        "EHLO [127.0.0.1]",
        "AUTH PLAIN AGFkYQBodW50ZXIy",
        "MAIL FROM:<arkeep@example.org>",
        "RCPT TO:<ada@example.org>",
        "DATA",
        "Subject: x\r\n\r\neA==\r\n.",
        "QUIT",
    ];
    const BEGIN: [&str; 5] = [
        "220 hi",
        "<",
        "250-mail.example\r\n250 STARTTLS",
        "<",
        "220 go",
    ];

    /// V4, S11
    #[tokio::test]
    async fn nothing_but_hello_is_said_before_tls() -> Fallible {
        let stage = Stage::new("mail.example").await?;

        let script = [&BEGIN[..], &["tls"], &REST].concat();
        let (sent, heard) = stage.play(MailTls::Starttls, &script).await?;
        assert!(sent.is_ok(), "{sent:?}");
        let before = ["EHLO [127.0.0.1]", "STARTTLS", "(tls)"];
        assert_eq!(heard, [&before[..], &WHOLE].concat());

        let script = [&["tls", "220 hi"], &REST[..]].concat();
        let (sent, heard) = stage.play(MailTls::Implicit, &script).await?;
        assert!(sent.is_ok(), "{sent:?}");
        assert_eq!(heard, [&["(tls)"][..], &WHOLE].concat());
        Ok(())
    }

    /// V4: whoever sits between takes the offer away, or brings a certificate of their own.
    #[tokio::test]
    async fn without_tls_there_is_no_mail() -> Fallible {
        let stage = Stage::new("mail.example").await?;
        let (sent, heard) = stage
            .play(MailTls::Starttls, &["220 hi", "<", "250 AUTH PLAIN", "<"])
            .await?;
        assert!(matches!(sent, Err(MailError::NoTls)), "{sent:?}");
        assert_eq!(heard, ["EHLO [127.0.0.1]"]);

        let other = Stage::new("other.example").await?;
        let script = [&BEGIN[..], &["tls", "<"]].concat();
        let (sent, heard) = other.play(MailTls::Starttls, &script).await?;
        assert!(matches!(sent, Err(MailError::Tls(_))), "{sent:?}");
        assert_eq!(heard, ["EHLO [127.0.0.1]", "STARTTLS"]);
        Ok(())
    }

    /// What was put in before the handshake is not taken for the server's.
    #[tokio::test]
    async fn an_answer_before_the_handshake_is_refused() -> Fallible {
        let stage = Stage::new("mail.example").await?;
        let script = [&BEGIN[..4], &["220 go\r\n250 AUTH PLAIN", "tls"]].concat();

        let (sent, heard) = stage.play(MailTls::Starttls, &script).await?;

        assert!(matches!(sent, Err(MailError::Speech)), "{sent:?}");
        assert_eq!(heard, ["EHLO [127.0.0.1]", "STARTTLS"]);
        Ok(())
    }

    #[tokio::test]
    async fn refusals_and_nonsense_are_told_apart() -> Fallible {
        let stage = Stage::new("mail.example").await?;
        let endless = "250-x\r\n".repeat(200);
        let long = "2".repeat(5_000);
        for (script, expected) in [
            (vec!["554 go away"], "the mail server answers with code 554"),
            (vec!["hello"], "the mail server is not understood"),
            (vec![long.as_str()], "the mail server is not understood"),
            (
                vec!["220 hi", "<", &endless],
                "the mail server is not understood",
            ),
            (
                vec!["220 hi", "<", "250 SIZE"],
                "the mail server does not take a password",
            ),
            (vec![], "the mail server hangs up"),
        ] {
            let (sent, _) = stage.play(MailTls::None, &script).await?;
            let error = sent.err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), Some(expected), "{script:?}");
        }
        let script = [
            "220 hi",
            "<",
            "250 AUTH LOGIN",
            "<",
            "334 x",
            "<",
            "334 y",
            "<",
            "535 no",
        ];
        let (sent, heard) = stage.play(MailTls::None, &script).await?;
        assert!(matches!(sent, Err(MailError::Code(535))), "{sent:?}");
        assert_eq!(heard[1..], ["AUTH LOGIN", "YWRh", "aHVudGVyMg=="]);
        Ok(())
    }
}
