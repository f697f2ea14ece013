//! A server for agents on a port of this machine, over memory stores and a clock that is moved.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use arkeep_core::engine::EngineInfo;
use arkeep_core::job::{Assignment, Fence, JobReport, ReportBody, Work};
use arkeep_core::repository::{LocalLocation, Location, Repository};
use arkeep_core::testing::ManualClock;
use arkeep_core::{AgentId, Clock, DestinationId, JobId, SystemEntropy, Timestamp};
use arkeep_transport::address::ServerAddress;
use arkeep_transport::ca::{
    CertificateAuthority, CertificateChain, CheckedCsr, IssueRequest, LocalCa, Subject,
};
use arkeep_transport::client::{Connector, ConnectorParts, Credential, Enrolled, enroll};
use arkeep_transport::enrollment::{EnrollmentStore, Issuance, MemoryEnrollments, Occasion};
use arkeep_transport::gateway::{AgentGateway, AgentHandle, GatewayError};
use arkeep_transport::identity::{AgentIdentity, TrustDomain};
use arkeep_transport::server::{AgentPort, PortConfig, PortControl, PortParts, ServeError};
use arkeep_transport::session::{
    EngineStatus, Generation, Heartbeat, HeldJob, Hello, JobProgress, LogBatch, QueryAnswer,
};
use arkeep_transport::token::{DEFAULT_VALIDITY, JoinToken, TokenTerms};
use arkeep_transport::trust::{SpkiFingerprint, TrustBundle};

pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// How long a test waits for what must happen before it gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// 23 November 2026, noon.
pub(crate) fn noon() -> Timestamp {
    Timestamp::from_unix_seconds(1_795_435_200)
}

/// Waits for what must happen.
pub(crate) async fn soon<T>(happens: impl Future<Output = T>) -> Result<T, Box<dyn Error>> {
    tokio::time::timeout(PATIENCE, happens)
        .await
        .map_err(|_| "what must happen did not".into())
}

pub(crate) struct Stand<C = LocalCa> {
    pub(crate) ca: Arc<C>,
    pub(crate) trust: TrustBundle,
    fingerprint: SpkiFingerprint,
    pub(crate) store: Arc<MemoryEnrollments>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) control: PortControl,
    pub(crate) server: ServerAddress,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Stand {
    pub(crate) async fn start() -> Result<Self, Box<dyn Error>> {
        Self::start_with(PortConfig::default()).await
    }

    pub(crate) async fn start_with(config: PortConfig) -> Result<Self, Box<dyn Error>> {
        let (ca, _) = LocalCa::generate(noon())?;
        let fingerprint = ca.fingerprint();
        Self::start_over(ca, fingerprint, config).await
    }
}

impl<C: CertificateAuthority + 'static> Stand<C> {
    /// Over a CA of another kind.
    pub(crate) async fn start_over(
        ca: C,
        fingerprint: SpkiFingerprint,
        config: PortConfig,
    ) -> Result<Self, Box<dyn Error>> {
        let ca = Arc::new(ca);
        let trust = ca.trust_bundle().await?;
        let clock = Arc::new(ManualClock::at(noon()));
        let store = Arc::new(MemoryEnrollments::default());
        let gateway = Arc::new(Gateway::default());
        let parts = PortParts {
            ca: Arc::clone(&ca) as _,
            store: Arc::clone(&store) as _,
            gateway: Arc::clone(&gateway) as _,
            clock: Arc::clone(&clock) as _,
        };
        let port = AgentPort::open(parts, config).await?;
        let control = port.control();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = listener.local_addr()?.to_string().parse()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(port.serve(listener, async {
            let _ = stopped.await;
        }));
        Ok(Self {
            ca,
            trust,
            fingerprint,
            store,
            gateway,
            clock,
            control,
            server,
            stop: Some(stop),
            serving,
        })
    }

    /// Stops the server as SIGTERM would, and waits for it.
    pub(crate) async fn stop(mut self) -> Outcome {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        Ok(soon(&mut self.serving).await???)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as _
    }

    pub(crate) fn mint(&self) -> AgentId {
        AgentId::mint(self.clock.now(), &SystemEntropy)
    }

    /// A token for a new agent, offered in the store.
    pub(crate) async fn token(&self) -> Result<JoinToken, Box<dyn Error>> {
        self.token_for(self.mint()).await
    }

    pub(crate) async fn token_for(&self, agent: AgentId) -> Result<JoinToken, Box<dyn Error>> {
        let terms = TokenTerms {
            server: self.server.clone(),
            fingerprint: self.fingerprint,
            validity: DEFAULT_VALIDITY,
        };
        let token = JoinToken::mint(terms, self.clock.now(), &SystemEntropy)?;
        self.store.offer(&token.offered_to(agent)).await?;
        Ok(token)
    }

    pub(crate) async fn enroll(&self) -> Result<Enrolled, Box<dyn Error>> {
        Ok(enroll(&self.token().await?, &self.clock()).await?)
    }

    /// A new agent, ready to connect.
    pub(crate) async fn agent(&self) -> Result<Connector, Box<dyn Error>> {
        let enrolled = self.enroll().await?;
        self.connector(enrolled.credential)
    }

    pub(crate) fn connector(&self, credential: Credential) -> Result<Connector, Box<dyn Error>> {
        Ok(Connector::new(ConnectorParts {
            server: self.server.clone(),
            credential,
            trust: self.trust.clone(),
            clock: self.clock(),
        })?)
    }
}

impl<C> Drop for Stand<C> {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A credential that a CA signs for an agent, without an enrolment.
pub(crate) async fn signed_by(
    ca: &LocalCa,
    subject: Subject,
    now: Timestamp,
) -> Result<Signed, Box<dyn Error>> {
    let key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::default().serialize_request(&key)?;
    let csr = CheckedCsr::check(request.der())?;
    let request = IssueRequest {
        csr: &csr,
        subject,
        validity: Duration::from_secs(7 * 24 * 3600),
        now,
    };
    let CertificateChain(chain) = ca.issue(request).await?;
    Ok(Signed { key, chain })
}

/// A key and the certificate for it.
pub(crate) struct Signed {
    pub(crate) key: rcgen::KeyPair,
    pub(crate) chain: Vec<Vec<u8>>,
}

impl Signed {
    pub(crate) fn credential(&self) -> Result<Credential, Box<dyn Error>> {
        let leaf = self.chain.first().ok_or("no certificate")?;
        let pem = pem(leaf);
        Ok(Credential::from_pem(self.key.serialize_pem().into(), &pem)?)
    }
}

fn pem(der: &[u8]) -> String {
    use rustls::pki_types::CertificateDer;
    let bundle = TrustBundle::new([CertificateDer::from(der).to_vec()]);
    bundle.map(|bundle| bundle.to_pem()).unwrap_or_default()
}

pub(crate) fn agent_subject(agent: AgentId) -> Subject {
    Subject::Agent {
        agent,
        uri: TrustDomain::default().agent_uri(agent),
    }
}

/// Records a certificate as if it had been issued by an enrolment.
pub(crate) async fn record(store: &MemoryEnrollments, credential: &Credential) -> Outcome {
    let issuance = Issuance {
        agent: credential.agent(),
        serial: credential.serial(),
        not_before: credential.not_before(),
        not_after: credential.not_after(),
        issued_at: credential.not_before(),
        occasion: Occasion::Enrolled,
    };
    Ok(store.record(&issuance).await?)
}

pub(crate) fn hello(connector: &Connector) -> Hello {
    Hello {
        agent_version: "0.1.0".to_owned(),
        hostname: "web-1".to_owned(),
        os: "Debian 12".to_owned(),
        arch: "x86_64".to_owned(),
        engine: EngineStatus::Found(EngineInfo {
            version: "0.18.0".to_owned(),
            source: "path".to_owned(),
        }),
        hook_policy: "off".to_owned(),
        sandbox: "none".to_owned(),
        docker: false,
        held: Vec::new(),
        trust: connector.trust().digest(),
    }
}

/// What a gateway heard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    Connected(AgentId, Generation),
    Accepted(AgentId, HeldJob),
    Report(AgentId, JobReport),
    Logs(AgentId, LogBatch),
    Progress(AgentId, JobProgress),
    Heartbeat(AgentId, Heartbeat),
    Answered(AgentId, QueryAnswer),
    Disconnected(AgentId, Generation),
}

/// A gateway that knows whose each job is, and tells what it heard.
#[derive(Debug)]
pub(crate) struct Gateway {
    jobs: Mutex<HashMap<JobId, AgentId>>,
    handles: Mutex<HashMap<AgentId, AgentHandle>>,
    generations: AtomicU64,
    heard: mpsc::UnboundedSender<Heard>,
    listener: tokio::sync::Mutex<mpsc::UnboundedReceiver<Heard>>,
}

impl Default for Gateway {
    fn default() -> Self {
        let (heard, listener) = mpsc::unbounded_channel();
        Self {
            jobs: Mutex::default(),
            handles: Mutex::default(),
            generations: AtomicU64::new(0),
            heard,
            listener: tokio::sync::Mutex::new(listener),
        }
    }
}

impl Gateway {
    /// What was heard next.
    pub(crate) async fn next(&self) -> Result<Heard, Box<dyn Error>> {
        let mut listener = self.listener.lock().await;
        soon(listener.recv()).await?.ok_or_else(|| "deaf".into())
    }

    /// What was heard already, without waiting.
    pub(crate) fn try_next(&self) -> Result<Heard, Box<dyn Error>> {
        Ok(self.listener.try_lock()?.try_recv()?)
    }

    /// Skips what was heard until `wanted` gives something.
    pub(crate) async fn until<T>(
        &self,
        wanted: impl Fn(Heard) -> Option<T>,
    ) -> Result<T, Box<dyn Error>> {
        loop {
            if let Some(found) = wanted(self.next().await?) {
                return Ok(found);
            }
        }
    }

    pub(crate) fn handle(&self, agent: AgentId) -> Result<AgentHandle, Box<dyn Error>> {
        let handles = locked(&self.handles);
        handles
            .get(&agent)
            .cloned()
            .ok_or_else(|| "never connected".into())
    }

    /// Makes a job of the agent.
    pub(crate) fn job_of(&self, agent: AgentId) -> HeldJob {
        let job = JobId::mint(noon(), &SystemEntropy);
        locked(&self.jobs).insert(job, agent);
        held(job)
    }

    fn owns(&self, agent: &AgentIdentity, job: HeldJob) -> Result<(), GatewayError> {
        match locked(&self.jobs).get(&job.job) {
            Some(owner) if *owner == agent.agent() => Ok(()),
            _ => Err(GatewayError::NotFound),
        }
    }

    fn tell(&self, heard: Heard) {
        let _ = self.heard.send(heard);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn held(job: JobId) -> HeldJob {
    HeldJob {
        job,
        attempt: 1,
        fence: Fence(1),
    }
}

pub(crate) fn nobodys_job() -> HeldJob {
    held(JobId::mint(noon(), &SystemEntropy))
}

pub(crate) fn started(held: HeldJob) -> JobReport {
    JobReport {
        job: held.job,
        attempt: held.attempt,
        fence: held.fence,
        sequence: 1,
        at: noon(),
        body: ReportBody::Started,
    }
}

pub(crate) fn assignment(held: HeldJob) -> Result<Assignment, Box<dyn Error>> {
    Ok(Assignment {
        job: held.job,
        attempt: held.attempt,
        fence: held.fence,
        policy: None,
        deadline: None,
        work: Work::Test(Box::new(arkeep_core::job::DestinationWork {
            destination: DestinationId::mint(noon(), &SystemEntropy),
            repository: Repository {
                location: Location::Local(LocalLocation {
                    path: "/srv/backup".to_owned(),
                    must_be_mounted: false,
                }),
                path: "web".parse()?,
                credentials: None,
                password: "correct horse".to_owned().into(),
            },
        })),
    })
}

#[async_trait]
impl AgentGateway for Gateway {
    async fn connected(
        &self,
        agent: &AgentIdentity,
        _hello: Hello,
        handle: AgentHandle,
    ) -> Result<Generation, GatewayError> {
        let generation = Generation(self.generations.fetch_add(1, Ordering::SeqCst) + 1);
        locked(&self.handles).insert(agent.agent(), handle);
        self.tell(Heard::Connected(agent.agent(), generation));
        Ok(generation)
    }

    async fn accepted(&self, agent: &AgentIdentity, job: HeldJob) -> Result<(), GatewayError> {
        self.owns(agent, job)?;
        self.tell(Heard::Accepted(agent.agent(), job));
        Ok(())
    }

    async fn report(&self, agent: &AgentIdentity, report: JobReport) -> Result<(), GatewayError> {
        self.owns(agent, HeldJob::from(&report))?;
        self.tell(Heard::Report(agent.agent(), report));
        Ok(())
    }

    async fn logs(&self, agent: &AgentIdentity, batch: LogBatch) -> Result<u64, GatewayError> {
        self.owns(agent, batch.job)?;
        let through = batch.lines.last().map_or(0, |line| line.seq);
        self.tell(Heard::Logs(agent.agent(), batch));
        Ok(through)
    }

    async fn progress(&self, agent: &AgentIdentity, progress: JobProgress) {
        self.tell(Heard::Progress(agent.agent(), progress));
    }

    async fn heartbeat(
        &self,
        agent: &AgentIdentity,
        heartbeat: Heartbeat,
    ) -> Result<(), GatewayError> {
        self.tell(Heard::Heartbeat(agent.agent(), heartbeat));
        Ok(())
    }

    async fn answered(&self, agent: &AgentIdentity, answer: QueryAnswer) {
        self.tell(Heard::Answered(agent.agent(), answer));
    }

    async fn disconnected(&self, agent: &AgentIdentity, generation: Generation) {
        self.tell(Heard::Disconnected(agent.agent(), generation));
    }
}
