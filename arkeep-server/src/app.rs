//! The composition root: the one place that knows every part.
//!
//! [`App::start`] opens what is there or makes it, in the order of [`data_dir`], loads what is
//! revoked, and binds both ports. Whoever connects waits in the kernel until [`App::serve`], which
//! answers until it is stopped and then ends in the reverse order: no new requests, open ones end,
//! what agents have said is stored, the database is closed.

mod audited;
mod background;
mod counted;
pub mod data_dir;
pub mod keys;
mod providers;
pub mod setup_token;
pub mod tls;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::password::{HashCost, HashPool};
use arkeep_auth::session::{Lifetimes, SessionParts};
use arkeep_auth::token::TokenConfig;
use arkeep_auth::{
    ApiTokens, Authenticator, LoginGuard, Passwords, RevocationCache, SecondFactors, Sessions,
    SetupToken,
};
use arkeep_core::{Clock, Entropy, SecretString, StoreError, SystemClock, SystemEntropy};
use arkeep_transport::address::ParseAddressError;
use arkeep_transport::server::{AgentPort, OpenPortError, PortConfig, PortParts, ServeError};
use arkeep_vault::Sealer;
use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authority::{Authority, AuthorityParts, Following};
use crate::config::Cidr;
use crate::config::serve::{ConfigRefused, HttpTls, ServeConfig, host_of};
use crate::dispatch::{Dispatcher, DispatcherParts, DispatcherStores, Scheduler, SchedulerParts};
use crate::http::access::Rule;
use crate::http::audit::AuditLog;
use crate::http::metrics::Metrics;
use crate::http::pulse::Pulse;
use crate::http::services::{Api, Facts, Services, Stores};
use crate::http::{self, listen};
use crate::keeper::{Keeper, KeeperParts};
use crate::notify::{Messenger, MessengerParts, Wires};
use crate::store::{Database, SealedFactors};
use crate::token_keys::{TokenKeys, TokenKeysParts};
use audited::AuditedEnrollments;
use background::Background;
use counted::{CountedGateway, CountedSealer};
use data_dir::{DataDir, DataDirError};
use keys::KeysError;
pub use providers::ClientError;
use setup_token::OfferError;
use tls::{OwnCertificate, TlsError};

/// A server that is ready to answer.
#[derive(Debug)]
pub struct App {
    router: Router,
    rules: Vec<Rule>,
    trusted_proxies: Vec<Cidr>,
    http: TcpListener,
    grpc: TcpListener,
    agents: AgentPort,
    dispatcher: Dispatcher,
    tls: Option<Arc<rustls::ServerConfig>>,
    setup_token: Option<SetupToken>,
    store: Arc<dyn Database>,
    tasks: TaskTracker,
    stop_background: CancellationToken,
    stop_streams: CancellationToken,
    addresses: Addresses,
}

/// Where a server answers.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Addresses {
    /// HTTP.
    pub http: SocketAddr,
    /// Agents.
    pub grpc: SocketAddr,
}

/// A server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The options are refused.
    #[error(transparent)]
    Config(#[from] ConfigRefused),

    /// The state cannot be opened.
    #[error(transparent)]
    DataDir(#[from] DataDirError),

    /// The server's own keys cannot be had.
    #[error(transparent)]
    Keys(#[from] KeysError),

    /// HTTPS cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsError),

    /// What is revoked cannot be read, so nobody can be let in.
    #[error("what is revoked cannot be read")]
    Revocations(#[from] StoreError),

    /// The setup token cannot be offered.
    #[error(transparent)]
    Setup(#[from] OfferError),

    /// A port is taken, or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// Nothing outside can be called.
    #[error("no client for outbound calls could be made")]
    Client(#[from] ClientError),

    /// The port for agents cannot be opened.
    #[error(transparent)]
    Agents(#[from] OpenPortError),

    /// The address that agents are told is none.
    #[error("--agent-addr is not an address")]
    AgentAddress(#[from] ParseAddressError),

    /// The file of the metrics token cannot be read.
    #[error("{0}", path.display())]
    MetricsToken {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// The system gives no threads.
    #[error("the system gives no threads")]
    Threads(#[source] io::Error),
}

impl App {
    /// Opens everything and binds both ports.
    ///
    /// # Errors
    ///
    /// [`StartError`]. Until the state was opened, nothing has changed anywhere.
    pub async fn start(config: ServeConfig) -> Result<Self, StartError> {
        Self::start_at(config, Arc::new(SystemClock)).await
    }

    /// The same by another clock, for tests that move time.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_at(config: ServeConfig, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let metrics_token = config
            .metrics_token_file
            .as_deref()
            .map(metrics_token)
            .transpose()?;
        let data_dir = DataDir::new(&config.data);
        let opened = data_dir.open_or_make(clock.now()).await?;
        let store = opened.store;

        let metrics = Arc::new(Metrics::new());
        let keeper = Arc::new(Keeper::new(KeeperParts {
            ring: opened.ring,
            values: store.clone(),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
        }));
        let sealer: Arc<dyn Sealer> = Arc::new(CountedSealer {
            sealer: Arc::clone(&keeper) as Arc<_>,
            metrics: Arc::clone(&metrics),
        });
        let authority = Authority::open(AuthorityParts {
            keys: store.clone(),
            rotations: store.clone(),
            sealer: Arc::clone(&sealer),
            clock: Arc::clone(&clock),
        });
        let authority = Arc::new(authority.await?);
        let issuer = config
            .public_url
            .clone()
            .unwrap_or_else(|| "arkeep".to_owned());
        let token_keys = TokenKeysParts {
            keys: store.clone(),
            sealer: Arc::clone(&sealer),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            life: config.token_key_life,
        };
        let token_keys = TokenKeys::open(token_keys, TokenConfig::new(issuer, "arkeep"));
        let token_keys = Arc::new(token_keys.await?);
        let tokens = token_keys.tokens();
        // Before anybody is let in.
        let revocations = Arc::new(RevocationCache::load(store.clone()).await?);
        let setup_token_file = data_dir.setup_token();
        let (instance, random) = (store.as_ref(), entropy.as_ref());
        let setup_token = match data_dir.is_shared() {
            true => setup_token::offer_among_replicas(instance, random, &setup_token_file).await?,
            false => setup_token::offer(instance, random, &setup_token_file).await?,
        };

        let (http, grpc) = (bind(config.http_addr).await?, bind(config.grpc_addr).await?);
        let addresses = Addresses {
            http: http.1,
            grpc: grpc.1,
        };
        let (tls, certificate) = https(&config, &authority, &clock).await?;

        let pool = HashPool::start(HashPool::default_threads(), WAITING_HASHES)
            .map_err(StartError::Threads)?;
        let passwords = Passwords::new(HashCost::default(), pool, Arc::clone(&entropy));
        let stop_streams = CancellationToken::new();
        let stores = Stores::on(Arc::clone(&store));
        let factors = SealedFactors::new(store.clone(), Arc::clone(&sealer));
        let factors = SecondFactors::new(Arc::new(factors), Arc::clone(&entropy));
        let api_tokens = ApiTokens::new(store.clone(), Arc::clone(&entropy));
        let dispatcher = Dispatcher::new(DispatcherParts {
            stores: DispatcherStores::on(Arc::clone(&store)),
            sealer: Arc::clone(&sealer),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
        });
        let audit = Arc::new(AuditLog::new(
            Arc::clone(&stores.audit),
            Arc::clone(&stores.users),
            Arc::clone(&clock),
        ));
        let agents = AgentPort::open(
            PortParts {
                ca: Arc::clone(&authority) as Arc<_>,
                store: Arc::new(AuditedEnrollments {
                    store: Arc::clone(&stores.enrollments),
                    log: Arc::clone(&audit),
                }),
                gateway: Arc::new(CountedGateway {
                    gateway: Following {
                        gateway: dispatcher.clone(),
                        authority: Arc::clone(&authority),
                    },
                    metrics: Arc::clone(&metrics),
                }),
                clock: Arc::clone(&clock),
            },
            PortConfig::default(),
        )
        .await?;
        dispatcher.attach(agents.control());
        let scheduler = Scheduler::new(SchedulerParts {
            policies: Arc::clone(&stores.policies),
            jobs: Arc::clone(&stores.jobs),
            queue: Arc::clone(&stores.queue),
            marks: store.clone(),
            fleet: Arc::new(dispatcher.clone()),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
        });
        let (outbound, tls_outbound) = providers::outbound(&config)?;
        let messenger = Messenger::new(MessengerParts {
            deliveries: store.clone(),
            sealer: Arc::clone(&sealer),
            wires: Wires::new(outbound.clone(), tls_outbound),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
        });
        let trusted_proxies = config.trusted_proxies.clone();
        let api = Api::new(Services {
            audit,
            sealer,
            keeper,
            authority,
            stores,
            fleet: Arc::new(dispatcher.clone()),
            authenticator: Authenticator::new(
                Arc::clone(&tokens) as Arc<_>,
                Arc::clone(&revocations) as Arc<_>,
            )
            .with_api_tokens(api_tokens.clone())
            .following(Arc::clone(&token_keys) as Arc<_>),
            sessions: Sessions::new(SessionParts {
                users: store.clone(),
                sessions: store.clone(),
                revocations: Arc::clone(&revocations) as Arc<_>,
                issuer: Arc::clone(&tokens) as Arc<_>,
                passwords: passwords.clone(),
                entropy: Arc::clone(&entropy),
                lifetimes: Lifetimes::default(),
            })
            .guarded(Arc::new(LoginGuard::default()))
            .with_second_factors(factors.clone()),
            factors,
            api_tokens,
            relying_party: providers::relying_party(&config, &store, &entropy, &outbound),
            messenger,
            tokens,
            passwords,
            revocations: Arc::clone(&revocations),
            metrics,
            pulse: Arc::new(Pulse::new(Arc::clone(&clock))),
            facts: Facts {
                https: config.tls.is_https(),
                agent_address: config.agent_addr(addresses.grpc).parse()?,
                setup_token_file,
                public_url: config.public_url,
                trusted_proxies: config.trusted_proxies,
                metrics_allow: config.metrics_allow,
                metrics_token,
            },
            stop: stop_streams.clone(),
            clock,
            entropy,
        });

        let (tasks, stop_background) = (TaskTracker::new(), CancellationToken::new());
        let (router, rules) = http::router(api.clone());
        let background = Background {
            api,
            token_keys,
            revocations,
            notices: store.revocation_notices().await?,
            neighbours: store.elsewhere().await?,
            dispatcher: dispatcher.clone(),
            certificate,
            scheduler,
            changes: dispatcher.changes(),
        };
        background.start(&tasks, &stop_background);
        Ok(Self {
            router,
            rules,
            trusted_proxies,
            http: http.0,
            grpc: grpc.0,
            agents,
            dispatcher,
            tls,
            setup_token,
            store,
            tasks,
            stop_background,
            stop_streams,
            addresses,
        })
    }

    /// Where it answers.
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The token with which the first administrator is made, unless that has happened.
    #[must_use]
    pub const fn setup_token(&self) -> Option<&SetupToken> {
        self.setup_token.as_ref()
    }

    /// Who may do what over HTTP.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Answers until `stop`, then ends in good order within [`Self::LONGEST_END`].
    ///
    /// # Errors
    ///
    /// [`ServeError`] when the port for agents has failed by itself.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), ServeError> {
        // What follows a log for ever must end before its connection can.
        let streams = self.stop_streams;
        let dispatcher = self.dispatcher;
        let ending = {
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                dispatcher.drain();
                streams.cancel();
            }
        };
        let proxies = self.trusted_proxies;
        let http = listen::serve(
            self.http,
            self.router,
            self.tls,
            proxies,
            stop.clone(),
            HTTP_END,
        );
        let agents = async {
            let stopped = stop.clone();
            let served = self
                .agents
                .serve(self.grpc, stopped.cancelled_owned())
                .await;
            // One port without the other is no server.
            stop.cancel();
            served
        };
        let ((), (), served) = tokio::join!(ending, http, agents);
        self.stop_background.cancel();
        self.tasks.close();
        if tokio::time::timeout(BACKGROUND_END, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("background work was cut off");
        }
        self.store.close().await;
        served
    }

    /// The longest that [`serve`](Self::serve) takes to end.
    pub const LONGEST_END: Duration = Duration::from_secs(30);
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

type Https = (
    Option<Arc<rustls::ServerConfig>>,
    Option<Arc<OwnCertificate>>,
);

async fn https(
    config: &ServeConfig,
    authority: &Arc<Authority>,
    clock: &Arc<dyn Clock>,
) -> Result<Https, TlsError> {
    match &config.tls {
        HttpTls::Plain { .. } => Ok((None, None)),
        HttpTls::Files { certificate, key } => {
            Ok((Some(Arc::new(tls::from_files(certificate, key)?)), None))
        }
        HttpTls::Own => {
            let host = config
                .public_url
                .as_deref()
                .and_then(host_of)
                .unwrap_or("localhost");
            let (authority, clock) = (Arc::clone(authority), Arc::clone(clock));
            let own = Arc::new(OwnCertificate::issue(authority, clock, host.to_owned()).await?);
            Ok((Some(Arc::new(tls::from_own(Arc::clone(&own))?)), Some(own)))
        }
    }
}

fn metrics_token(path: &Path) -> Result<SecretString, StartError> {
    let failed = |source| StartError::MetricsToken {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(failed)?;
    match text.trim() {
        "" => Err(failed(io::Error::other("the file is empty"))),
        token if token.contains(char::is_whitespace) => {
            Err(failed(io::Error::other("a bearer token is one word")))
        }
        token => Ok(SecretString::from(token)),
    }
}

/// Passwords that may wait to be hashed. Each costs about 20 ms.
const WAITING_HASHES: usize = 256;

/// How long open requests may take to end.
const HTTP_END: Duration = Duration::from_secs(10);

/// How long the last round of background work may take.
const BACKGROUND_END: Duration = Duration::from_secs(5);
