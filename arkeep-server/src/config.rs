//! What the operator said, as typed.
//!
//! Every option has three homes: a flag, a variable `ARKEEP_<OPTION>` and a key of the TOML file
//! that `--config` names. A flag beats the variable, the variable beats the file. There is one
//! declaration for all three, the clap structures below: the file's values become clap's defaults.
//!
//! What the options mean together, and which combinations are refused, is in [`serve`].

mod file;
pub mod key;
mod life;
mod net;
pub mod serve;

use std::ffi::OsString;
use std::path::PathBuf;

use arkeep_auth::Role;
use arkeep_auth::token::KeyLife;
use arkeep_core::SecretString;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use net::{Cidr, ParseCidrError};

/// The command line of `arkeep-server`.
#[derive(Debug, Parser)]
#[command(
    name = "arkeep-server",
    version,
    about = "The server of Arkeep",
    max_term_width = 100
)]
pub struct Cli {
    /// A TOML file with any of the options, named as they are here
    #[arg(long, global = true, env = "ARKEEP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(Box<ServeArgs>),
    /// Look after the accounts, for recovery
    #[command(subcommand)]
    User(UserCommand),
    /// Look after the keys that seal credentials
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Look after the certificate authority of the agents
    #[command(subcommand)]
    Ca(CaCommand),
    /// Look after the log of who did what
    #[command(subcommand)]
    Audit(AuditCommand),
}

/// `arkeep-server user …`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make an account, with the password that standard input holds
    Create(NewUserArgs),
    /// End every session of an account, and let nobody in with it
    Disable {
        /// Where the server keeps its state.
        #[command(flatten)]
        data: DataArgs,
        /// The account's e-mail address
        #[arg(value_name = "EMAIL")]
        email: String,
    },
    /// List the accounts
    List(DataArgs),
    /// Set a new password, read from standard input, and end every session of the account
    ResetPassword {
        /// Where the server keeps its state.
        #[command(flatten)]
        data: DataArgs,
        /// The account's e-mail address
        #[arg(value_name = "EMAIL")]
        email: String,
    },
}

/// `arkeep-server user create`
#[derive(Debug, Clone, Args)]
pub struct NewUserArgs {
    /// Where the server keeps its state.
    #[command(flatten)]
    pub data: DataArgs,
    /// The address to log in with
    #[arg(value_name = "EMAIL")]
    pub email: String,
    /// What the account may do: viewer, operator or admin
    #[arg(long, default_value_t = Role::Viewer)]
    pub role: Role,
    /// What people call the user; the address when absent
    #[arg(long)]
    pub display_name: Option<String>,
}

/// `arkeep-server vault …`
#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// Show the keys of the ring
    Status(DataArgs),
    /// Open every sealed value; name those that do not open, and exit 1 if there are any
    Verify(DataArgs),
    /// Make a new key, and seal every value again under it; one that was interrupted goes on
    /// with the next, or in the server
    Rotate(DataArgs),
    /// Change the key that unwraps the ring; without --new-… the key file is replaced where it is
    Rekey(RekeyArgs),
    /// Take a key out of use that no sealed value needs any more
    Disable(KeyArgs),
    /// Let a disabled key open again
    Enable(KeyArgs),
    /// Remove a key for good that was disabled for a day and that no sealed value needs
    Remove(KeyArgs),
}

/// `arkeep-server vault rekey …`
#[derive(Debug, Clone, Args)]
pub struct RekeyArgs {
    /// Where the server keeps its state.
    #[command(flatten)]
    pub data: DataArgs,

    /// A file with the new 32 bytes, or 64 hexadecimal digits; or give the new key in
    /// ARKEEP_NEW_VAULT_KEY or the credential
    /// vault.key.new
    #[arg(
        long,
        env = "ARKEEP_NEW_VAULT_KEY_FILE",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub new_vault_key_file: Option<PathBuf>,

    /// A file with the new passphrase; or give it in ARKEEP_NEW_VAULT_PASSPHRASE
    #[arg(
        long,
        env = "ARKEEP_NEW_VAULT_PASSPHRASE_FILE",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub new_vault_passphrase_file: Option<PathBuf>,
}

/// A command for one key of the ring.
#[derive(Debug, Clone, Args)]
pub struct KeyArgs {
    /// Where the server keeps its state.
    #[command(flatten)]
    pub data: DataArgs,

    /// The key, as `vault status` names it
    #[arg(value_name = "KEY")]
    pub key: arkeep_vault::KeyId,
}

/// `arkeep-server ca …`
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Show the roots, the phase of a rotation, and the agents that it waits for
    Status(DataArgs),
    /// Print the fingerprint that join tokens carry
    Fingerprint(DataArgs),
    /// Begin to replace the root, or take the next step; the server goes on by itself once every
    /// agent is ready
    Rotate(RotateArgs),
}

/// `arkeep-server ca rotate …`
#[derive(Debug, Clone, Args)]
pub struct RotateArgs {
    /// Where the server keeps its state.
    #[command(flatten)]
    pub data: DataArgs,

    /// Take the next step without the agents that `ca status` names; they must enrol anew
    #[arg(long)]
    pub force: bool,
}

/// `arkeep-server audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check the chain of entries; say what is missing, changed or moved, and exit 1 if there is any
    Verify(VerifyAuditArgs),
    /// Write every entry to standard output, one JSON object a line, the oldest first
    Export(DataArgs),
}

/// `arkeep-server audit verify`
#[derive(Debug, Clone, Args)]
pub struct VerifyAuditArgs {
    /// Where the server keeps its state.
    #[command(flatten)]
    pub data: DataArgs,

    /// An end of the chain that was noted elsewhere, as this command prints it; may be given several
    /// times
    #[arg(long, value_name = "SEQ:HASH")]
    pub noted: Vec<crate::store::audit::Head>,
}

/// Where the server keeps its state. Every command takes these.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// The directory of keys, tokens and, unless --database-url says otherwise, the database
    #[arg(
        long,
        env = "ARKEEP_DATA_DIR",
        value_name = "DIR",
        default_value = "./data",
        hide_env_values = true
    )]
    pub data_dir: PathBuf,

    /// `sqlite://` and a path [default: arkeep.db in --data-dir], or `postgres://…` for several
    /// servers at once; an address with a password belongs into ARKEEP_DATABASE_URL or the file of
    /// --config, where other users of this machine cannot read it
    #[arg(
        long,
        env = "ARKEEP_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<SecretString>,

    /// The file with the 32 bytes, or 64 hexadecimal digits, that unwrap the key ring; or give the
    /// digits in ARKEEP_VAULT_KEY [default: the credential vault.key, or vault.key in --data-dir]
    #[arg(
        long,
        env = "ARKEEP_VAULT_KEY_FILE",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub vault_key_file: Option<PathBuf>,

    /// A file with the passphrase that unwraps the key ring; or give it in ARKEEP_VAULT_PASSPHRASE
    #[arg(
        long,
        env = "ARKEEP_VAULT_PASSPHRASE_FILE",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub vault_passphrase_file: Option<PathBuf>,

    /// Which of these were flags, which variables, and which came from the file.
    #[arg(skip)]
    pub key_levels: key::Levels,
}

/// `arkeep-server serve …`
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where the server keeps its state.
    #[command(flatten)]
    pub data: DataArgs,

    /// Where to answer HTTP
    #[arg(
        long,
        env = "ARKEEP_HTTP_ADDR",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080",
        hide_env_values = true
    )]
    pub http_addr: String,

    /// Where to answer agents
    #[arg(
        long,
        env = "ARKEEP_GRPC_ADDR",
        value_name = "ADDR",
        default_value = "0.0.0.0:9090",
        hide_env_values = true
    )]
    pub grpc_addr: String,

    /// The address under which browsers reach the API
    #[arg(
        long,
        env = "ARKEEP_PUBLIC_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub public_url: Option<String>,

    /// HOST:PORT that join tokens tell agents to dial [default: the host of --public-url, or the
    /// address of --grpc-addr]
    #[arg(
        long,
        env = "ARKEEP_AGENT_ADDR",
        value_name = "HOST:PORT",
        hide_env_values = true
    )]
    pub agent_addr: Option<String>,

    /// The certificate chain for HTTPS, PEM
    #[arg(
        long,
        env = "ARKEEP_TLS_CERT",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert, PEM
    #[arg(
        long,
        env = "ARKEEP_TLS_KEY",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub tls_key: Option<PathBuf>,

    /// HTTPS with a certificate of this server's own authority
    #[arg(long, env = "ARKEEP_TLS_AUTO", hide_env_values = true)]
    pub tls_auto: bool,

    /// A proxy in front of this server does TLS
    #[arg(long, env = "ARKEEP_BEHIND_PROXY", hide_env_values = true)]
    pub behind_proxy: bool,

    /// Networks whose X-Forwarded-For is believed
    #[arg(long, env = "ARKEEP_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',', num_args = 1.., hide_env_values = true)]
    pub trusted_proxy: Vec<Cidr>,

    /// Loopback, link-local or metadata networks that requests to identity providers and notification channels may reach all the same
    #[arg(long, env = "ARKEEP_OUTBOUND_ALLOW", value_name = "CIDR", value_delimiter = ',', num_args = 1.., hide_env_values = true)]
    pub outbound_allow: Vec<Cidr>,

    /// Networks that may read /metrics
    #[arg(
        long,
        env = "ARKEEP_METRICS_ALLOW",
        value_name = "CIDR",
        value_delimiter = ',',
        num_args = 1..,
        default_value = "127.0.0.0/8,::1/128",
        hide_env_values = true
    )]
    pub metrics_allow: Vec<Cidr>,

    /// A file with the bearer token that opens /metrics to everyone else
    #[arg(
        long,
        env = "ARKEEP_METRICS_TOKEN_FILE",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub metrics_token_file: Option<PathBuf>,

    /// How long a key signs access tokens before the next does, such as 90d or 12h: 1h to 3650d
    #[arg(
        long,
        env = "ARKEEP_TOKEN_KEY_LIFE",
        value_name = "TIME",
        default_value = "90d",
        value_parser = life::token_key_life,
        hide_env_values = true
    )]
    pub token_key_life: KeyLife,

    /// How much to log: off, error, warn, info, debug, trace, or a filter such as `arkeep=debug`
    #[arg(
        long,
        env = "ARKEEP_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        hide_env_values = true
    )]
    pub log_level: String,

    /// How to write the log
    #[arg(
        long,
        env = "ARKEEP_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        hide_env_values = true
    )]
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for programs.
    Json,
}

/// The command line was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Not a command line of this program, or a request for help. Print it; clap knows its exit
    /// code.
    #[error(transparent)]
    Usage(clap::Error),

    /// The file of `--config` is not accepted. Print it and exit with 3.
    #[error("{0}")]
    File(String),
}

impl Cli {
    /// Reads the command line, the environment, and the file that either of them names.
    ///
    /// # Errors
    ///
    /// See [`ParseError`].
    pub fn read<I, T>(arguments: I) -> Result<Self, ParseError>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let matches = Self::command()
            .try_get_matches_from(&arguments)
            .map_err(ParseError::Usage)?;
        let typed = Self::from_matches(&matches).map_err(ParseError::Usage)?;
        let Some(path) = &typed.config else {
            return Ok(typed);
        };

        let command = file::defaults(Self::command(), path).map_err(ParseError::File)?;
        // Without the file these arguments were fine, so whatever is wrong now is in the file.
        let refused = |error: clap::Error| {
            ParseError::File(format!("{}: {}", path.display(), error.render()))
        };
        let matches = command.try_get_matches_from(&arguments).map_err(refused)?;
        Self::from_matches(&matches).map_err(refused)
    }

    fn from_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut cli = Self::from_arg_matches(matches)?;
        cli.command.data_mut().key_levels = key::Levels::of(matches);
        Ok(cli)
    }
}

impl Command {
    fn data_mut(&mut self) -> &mut DataArgs {
        match self {
            Self::Serve(args) => &mut args.data,
            Self::User(
                UserCommand::List(data)
                | UserCommand::Create(NewUserArgs { data, .. })
                | UserCommand::Disable { data, .. }
                | UserCommand::ResetPassword { data, .. },
            )
            | Self::Vault(
                VaultCommand::Status(data)
                | VaultCommand::Verify(data)
                | VaultCommand::Rotate(data)
                | VaultCommand::Rekey(RekeyArgs { data, .. })
                | VaultCommand::Disable(KeyArgs { data, .. })
                | VaultCommand::Enable(KeyArgs { data, .. })
                | VaultCommand::Remove(KeyArgs { data, .. }),
            )
            | Self::Ca(
                CaCommand::Status(data)
                | CaCommand::Fingerprint(data)
                | CaCommand::Rotate(RotateArgs { data, .. }),
            )
            | Self::Audit(
                AuditCommand::Verify(VerifyAuditArgs { data, .. }) | AuditCommand::Export(data),
            ) => data,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    type Fallible = Result<(), Box<dyn std::error::Error>>;

    fn serve(arguments: &[&str]) -> Result<ServeArgs, ParseError> {
        let all = ["arkeep-server", "serve"].iter().chain(arguments);
        match Cli::read(all)?.command {
            Command::Serve(args) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    fn file(text: &str) -> Result<tempfile::NamedTempFile, std::io::Error> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(text.as_bytes())?;
        Ok(file)
    }

    fn path(file: &tempfile::NamedTempFile) -> &str {
        file.path().to_str().unwrap_or_default()
    }

    #[test]
    fn the_declaration_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_beats_the_file() -> Fallible {
        let file = file("http-addr = '127.0.0.1:1'\ngrpc-addr = '127.0.0.1:2'\n")?;

        let args = serve(&["--http-addr", "127.0.0.1:3", "--config", path(&file)])?;

        assert_eq!(args.http_addr, "127.0.0.1:3");
        assert_eq!(args.grpc_addr, "127.0.0.1:2");
        Ok(())
    }

    #[test]
    fn the_file_knows_switches_and_lists() -> Fallible {
        let file = file("behind-proxy = true\ntrusted-proxy = ['10.0.0.0/8', '::1']\n")?;

        let args = serve(&["--config", path(&file)])?;

        assert!(args.behind_proxy);
        assert!(!args.tls_auto);
        assert_eq!(args.trusted_proxy.len(), 2);
        Ok(())
    }

    #[test]
    fn a_key_that_is_no_option_is_refused_by_name() -> Fallible {
        let file = file("htpp-addr = '127.0.0.1:1'\n")?;

        let refused = serve(&["--config", path(&file)]);

        assert!(matches!(refused, Err(ParseError::File(text)) if text.contains("`htpp-addr`")));
        Ok(())
    }

    #[test]
    fn a_bad_value_in_the_file_is_the_files_fault() -> Fallible {
        for text in [
            "log-format = 'xml'",
            "behind-proxy = 'perhaps'",
            "http-addr = {}",
            "=",
        ] {
            let file = file(text)?;

            let refused = serve(&["--config", path(&file)]);

            assert!(matches!(refused, Err(ParseError::File(_))), "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_file_serves_every_command() -> Fallible {
        let file = file("data-dir = '/srv/arkeep'\nhttp-addr = '127.0.0.1:1'\n")?;

        let cli = Cli::read([
            "arkeep-server",
            "ca",
            "fingerprint",
            "--config",
            path(&file),
        ])?;

        let Command::Ca(CaCommand::Fingerprint(data)) = cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!(data.data_dir, PathBuf::from("/srv/arkeep"));
        Ok(())
    }
}
