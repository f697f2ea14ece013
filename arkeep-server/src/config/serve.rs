//! What the options of `serve` mean together.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr as _;

use arkeep_auth::token::KeyLife;
use arkeep_core::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnectOptions;

use super::key::{self, KeySource, Said};
use super::{Cidr, DataArgs, LogFormat, RekeyArgs, ServeArgs};

/// How to serve, judged and complete.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServeConfig {
    /// Where the state lies.
    pub data: DataConfig,
    /// Where to answer HTTP.
    pub http_addr: SocketAddr,
    /// Where to answer agents.
    pub grpc_addr: SocketAddr,
    /// How HTTP is protected.
    pub tls: HttpTls,
    /// The address under which browsers reach the API, without a slash at its end.
    pub public_url: Option<String>,
    /// What join tokens tell agents to dial, when it was said.
    pub agent_addr: Option<String>,
    /// Networks whose forwarded addresses are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Networks of this machine that outgoing requests may reach all the same.
    pub outbound_allow: Vec<Cidr>,
    /// Networks that may read the metrics; none while [`proxy_is_unnamed`](Self::proxy_is_unnamed).
    pub metrics_allow: Vec<Cidr>,
    /// The file with the token that opens the metrics to others.
    pub metrics_token_file: Option<PathBuf>,
    /// How long a key signs access tokens.
    pub token_key_life: KeyLife,
    /// What to log.
    pub log_level: String,
    /// How to write it.
    pub log_format: LogFormat,
}

/// Where the state lies.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DataConfig {
    /// The directory.
    pub data_dir: PathBuf,
    /// Where the database is.
    pub database: DatabaseAddress,
    /// What the key-encryption key is read from, when it was said.
    pub vault_key: Option<KeySource>,
}

/// Where the database is. Shows no password.
#[derive(Clone)]
#[non_exhaustive]
pub enum DatabaseAddress {
    /// A file of this machine.
    Sqlite(PathBuf),
    /// A server, which replicas may share.
    Postgres(Box<PgConnectOptions>),
}

impl DatabaseAddress {
    fn parse(url: &SecretString) -> Result<Self, ConfigRefused> {
        let url = url.expose_secret();
        match url.split_once("://") {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            // What is wrong with it is not said: the text would hold a part of it.
            Some(("postgres" | "postgresql", _)) => match PgConnectOptions::from_str(url) {
                Ok(options) => Ok(Self::Postgres(Box::new(options))),
                Err(_) => Err(ConfigRefused::Database),
            },
            _ => Err(ConfigRefused::Database),
        }
    }
}

impl fmt::Debug for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(options) => f
                .debug_struct("Postgres")
                .field("host", &options.get_host())
                .field("port", &options.get_port())
                .field("database", &options.get_database())
                .finish_non_exhaustive(),
        }
    }
}

/// How HTTP is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpTls {
    /// Not by us: on loopback, or behind a proxy that does.
    Plain {
        /// A proxy in front does TLS, so that browsers see HTTPS.
        proxied: bool,
    },
    /// With the operator's certificate.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// With a certificate of our own authority.
    Own,
}

impl HttpTls {
    /// Whether browsers see HTTPS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        !matches!(self, Self::Plain { proxied: false })
    }
}

/// The options cannot be served. Exit with 3; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigRefused {
    /// Passwords would cross a network in the clear.
    #[error(
        "plain HTTP on {0} would carry passwords in the clear: give --tls-cert and --tls-key, or \
         --tls-auto, or --behind-proxy when a proxy does TLS, or listen on 127.0.0.1"
    )]
    PlainHttp(SocketAddr),

    /// A certificate without its key, or the other way round.
    #[error("--tls-cert and --tls-key go together; give both or neither")]
    HalfTls,

    /// More than one answer to the question who does TLS.
    #[error("give one of --tls-cert with --tls-key, --tls-auto, --behind-proxy, not several")]
    SeveralTls,

    /// Not an address to listen on.
    #[error("--{option} {text:?} is not an address such as 127.0.0.1:8080")]
    Address {
        /// The option.
        option: &'static str,
        /// What was given.
        text: String,
    },

    /// Not an address to dial.
    #[error("--agent-addr {0:?} is not a host and a port such as backup.example.org:9090")]
    AgentAddress(String),

    /// Not a web address.
    #[error("--public-url {0:?} is not an address such as https://backup.example.org")]
    PublicUrl(String),

    /// Not a database that this program knows. The address is not repeated: it may hold a password.
    #[error(
        "--database-url must be sqlite:// and a path, or postgres://user@host/database with \
         options that PostgreSQL has"
    )]
    Database,

    /// More than one answer to the question which key opens the ring.
    #[error("several vault keys are named: {0}; name one")]
    SeveralKeys(String),

    /// The key in use shall not be replaced by itself.
    #[error(
        "--new-vault-key-file names the key that is in use: name another file, or leave it out to \
         have the key replaced where it is"
    )]
    SameKey,

    /// A key or a passphrase is text.
    #[error(
        "the value of {variable} is not UTF-8: give the text itself, or name a file that holds it"
    )]
    NotText {
        /// The variable.
        variable: &'static str,
    },

    /// A key that is no file cannot be replaced by this program.
    #[error(
        "{0} cannot be replaced by this command: give the new key by --new-vault-key-file, \
         --new-vault-passphrase-file, ARKEEP_NEW_VAULT_KEY or ARKEEP_NEW_VAULT_PASSPHRASE"
    )]
    NoNewKey(String),

    /// A new key that would be made here is on no other machine.
    #[error(
        "the key ring is shared by every server on this database, and a key that is made here would \
         be missing there: put the new key on each of them first, and name it by \
         --new-vault-key-file, --new-vault-passphrase-file, ARKEEP_NEW_VAULT_KEY or \
         ARKEEP_NEW_VAULT_PASSPHRASE"
    )]
    SharedRing,
}

impl ServeConfig {
    /// Judges what was typed.
    ///
    /// # Errors
    ///
    /// See [`ConfigRefused`].
    pub fn judge(args: ServeArgs) -> Result<Self, ConfigRefused> {
        let http_addr = listen("http-addr", &args.http_addr)?;
        let grpc_addr = listen("grpc-addr", &args.grpc_addr)?;
        let tls = tls(&args)?;
        if tls == (HttpTls::Plain { proxied: false }) && !http_addr.ip().is_loopback() {
            return Err(ConfigRefused::PlainHttp(http_addr));
        }
        // Whoever speaks, the address is the proxy's, and the proxy may well be next door.
        let metrics_allow = match tls {
            HttpTls::Plain { proxied: true } if args.trusted_proxy.is_empty() => Vec::new(),
            _ => args.metrics_allow,
        };
        let public_url = args.public_url.map(public_url).transpose()?;
        if let Some(address) = &args.agent_addr
            && !is_host_and_port(address)
        {
            return Err(ConfigRefused::AgentAddress(address.clone()));
        }
        Ok(Self {
            data: DataConfig::judge(args.data)?,
            http_addr,
            grpc_addr,
            tls,
            public_url,
            agent_addr: args.agent_addr,
            trusted_proxies: args.trusted_proxy,
            outbound_allow: args.outbound_allow,
            metrics_allow,
            metrics_token_file: args.metrics_token_file,
            token_key_life: args.token_key_life,
            log_level: args.log_level,
            log_format: args.log_format,
        })
    }

    /// Whether a proxy stands in front and nobody said which: every client has its address then.
    #[must_use]
    pub fn proxy_is_unnamed(&self) -> bool {
        self.tls == (HttpTls::Plain { proxied: true }) && self.trusted_proxies.is_empty()
    }

    /// What join tokens tell agents to dial, now that the port is known.
    #[must_use]
    pub fn agent_addr(&self, bound: SocketAddr) -> String {
        if let Some(address) = &self.agent_addr {
            return address.clone();
        }
        match self.public_url.as_deref().and_then(host_of) {
            Some(host) => format!("{host}:{}", bound.port()),
            None if bound.ip().is_unspecified() => format!("127.0.0.1:{}", bound.port()),
            None => bound.to_string(),
        }
    }
}

impl DataConfig {
    /// Judges what was typed.
    ///
    /// # Errors
    ///
    /// [`ConfigRefused::Database`], [`ConfigRefused::SeveralKeys`]
    pub fn judge(args: DataArgs) -> Result<Self, ConfigRefused> {
        let database = match &args.database_url {
            Some(url) => DatabaseAddress::parse(url)?,
            None => DatabaseAddress::Sqlite(args.data_dir.join("arkeep.db")),
        };
        let said = Said {
            key_file: args.vault_key_file,
            passphrase_file: args.vault_passphrase_file,
        };
        let levels = &args.key_levels;
        Ok(Self {
            data_dir: args.data_dir,
            database,
            vault_key: key::choose(key::KEY, said, levels, &key::environment)?,
        })
    }
}

impl RekeyArgs {
    /// Finds out which key shall open the ring; none when the present one is to be replaced where
    /// it is.
    ///
    /// # Errors
    ///
    /// [`ConfigRefused::SeveralKeys`]
    pub fn new_key(&self) -> Result<Option<KeySource>, ConfigRefused> {
        let said = Said {
            key_file: self.new_vault_key_file.clone(),
            passphrase_file: self.new_vault_passphrase_file.clone(),
        };
        let levels = &self.data.key_levels;
        key::choose(key::NEW_KEY, said, levels, &key::environment)
    }
}

fn listen(option: &'static str, text: &str) -> Result<SocketAddr, ConfigRefused> {
    let refused = || ConfigRefused::Address {
        option,
        text: text.to_owned(),
    };
    let addresses: io::Result<Vec<SocketAddr>> = text.to_socket_addrs().map(Iterator::collect);
    addresses
        .ok()
        .and_then(|found| found.first().copied())
        .ok_or_else(refused)
}

fn tls(args: &ServeArgs) -> Result<HttpTls, ConfigRefused> {
    let files = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(HttpTls::Files {
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        (None, None) => None,
        _ => return Err(ConfigRefused::HalfTls),
    };
    match (files, args.tls_auto, args.behind_proxy) {
        (Some(files), false, false) => Ok(files),
        (None, true, false) => Ok(HttpTls::Own),
        (None, false, proxied) => Ok(HttpTls::Plain { proxied }),
        _ => Err(ConfigRefused::SeveralTls),
    }
}

fn public_url(text: String) -> Result<String, ConfigRefused> {
    let trimmed = text.trim_end_matches('/');
    if host_of(trimmed).is_some() {
        Ok(trimmed.to_owned())
    } else {
        Err(ConfigRefused::PublicUrl(text))
    }
}

pub(crate) fn host_of(url: &str) -> Option<&str> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    // An address with a user in it would be printed, and `user@` is how look-alikes are made.
    if authority.is_empty() || authority.contains('@') || authority != rest {
        return None;
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Some(host),
        Some(_) if !authority.ends_with(']') => None,
        _ => Some(authority),
    }
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(['/', '@', ' '])
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;

    fn judge(arguments: &[&str]) -> Result<ServeConfig, ConfigRefused> {
        let all = ["arkeep-server", "serve"].iter().chain(arguments);
        match Cli::read(all).map(|cli| cli.command) {
            Ok(Command::Serve(args)) => ServeConfig::judge(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_http_is_for_loopback() {
        assert!(judge(&["--http-addr", "127.0.0.1:0"]).is_ok());
        assert!(judge(&["--http-addr", "[::1]:0"]).is_ok());
        for address in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80"] {
            let refused = judge(&["--http-addr", address]);

            assert!(
                matches!(refused, Err(ConfigRefused::PlainHttp(_))),
                "{address}"
            );
        }
        assert!(judge(&["--http-addr", "0.0.0.0:8080", "--behind-proxy"]).is_ok());
        assert!(judge(&["--http-addr", "0.0.0.0:8080", "--tls-auto"]).is_ok());
    }

    /// S10
    #[test]
    fn behind_a_proxy_that_nobody_named_no_address_opens_the_metrics() -> Result<(), ConfigRefused>
    {
        let unnamed = judge(&["--behind-proxy", "--metrics-allow", "127.0.0.0/8"])?;
        let named = judge(&["--behind-proxy", "--trusted-proxy", "127.0.0.1"])?;

        assert_eq!(unnamed.metrics_allow, []);
        assert!(unnamed.proxy_is_unnamed());
        assert!(!named.metrics_allow.is_empty());
        assert!(!named.proxy_is_unnamed());
        Ok(())
    }

    #[test]
    fn tls_has_one_answer() {
        assert_eq!(
            judge(&["--tls-cert", "c"]).err(),
            Some(ConfigRefused::HalfTls)
        );
        assert_eq!(
            judge(&["--tls-key", "k"]).err(),
            Some(ConfigRefused::HalfTls)
        );
        assert_eq!(
            judge(&["--tls-auto", "--behind-proxy"]).err(),
            Some(ConfigRefused::SeveralTls)
        );
        assert_eq!(
            judge(&["--tls-cert", "c", "--tls-key", "k", "--tls-auto"]).err(),
            Some(ConfigRefused::SeveralTls)
        );
    }

    #[test]
    fn a_public_url_is_an_origin() {
        for url in [
            "https://backup.example.org",
            "https://b.example:8443/",
            "http://[::1]:80",
        ] {
            assert!(judge(&["--public-url", url]).is_ok(), "{url}");
        }
        for url in [
            "backup.example.org",
            "ftp://x",
            "https://",
            "https://u@x",
            "https://x/y",
            "https://x:y",
        ] {
            assert!(judge(&["--public-url", url]).is_err(), "{url}");
        }
    }

    #[test]
    fn agents_dial_what_the_operator_said_or_the_public_host() -> Result<(), ConfigRefused> {
        let bound = SocketAddr::from(([0, 0, 0, 0], 9191));
        let local = SocketAddr::from(([192, 0, 2, 1], 9191));

        let said = judge(&["--agent-addr", "a.example:1"])?;
        let public = judge(&["--public-url", "https://b.example:8443"])?;
        let neither = judge(&[])?;

        assert_eq!(said.agent_addr(bound), "a.example:1");
        assert_eq!(public.agent_addr(bound), "b.example:9191");
        assert_eq!(neither.agent_addr(local), "192.0.2.1:9191");
        assert_eq!(neither.agent_addr(bound), "127.0.0.1:9191");
        Ok(())
    }

    #[test]
    fn a_refused_database_address_is_not_repeated() {
        for url in [
            "mysql://root:hunter2@db",
            "postgres://root:hunter2@db:hunter2/a",
            "postgres://root:hunter2@db/a?sslmode=hunter2",
        ] {
            let refused = judge(&["--database-url", url]);

            let Err(error) = refused else {
                panic!("{url} was taken")
            };
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    /// V4
    #[test]
    fn a_database_address_shows_no_password() -> Result<(), ConfigRefused> {
        let url = "postgres://root:hunter2@db.example:5433/arkeep?sslmode=verify-full";
        let all = ["arkeep-server", "serve", "--database-url", url];
        let cli = Cli::read(all).map_err(|_| ConfigRefused::Database)?;
        let config = judge(&["--database-url", url])?;

        let shown = format!("{cli:?} {config:?}");

        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("db.example"), "{shown}");
        Ok(())
    }
}
