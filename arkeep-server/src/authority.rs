//! The root that vouches for agents, and how another takes its place.
//!
//! An [`Authority`] signs with the root in force and says which roots are trusted; the port for
//! agents and HTTPS follow it by themselves. Each step of a rotation is written down before anybody
//! acts by it, and [`work`](Authority::work) goes on with what it finds written: whether this
//! process wrote it before it was killed, another replica did, or `arkeep-server ca rotate` beside
//! it.
//!
//! | step     | goes on by itself when                                   | until then            |
//! |----------|----------------------------------------------------------|-----------------------|
//! | announce | never: somebody asks for it                              |                       |
//! | issue    | every agent has said that it trusts both roots           | agents are told       |
//! | settle   | every agent has come back with a certificate of the new  | agents are asked to   |
//!
//! Whether everybody is ready is decided by
//! [`Rotation::next`](arkeep_transport::ca::rotation::Rotation::next).

mod following;
mod status;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use arkeep_core::{AgentId, Clock, StoreError, Timestamp};
use arkeep_transport::ca::rotation::{NotYet, Patience, Phase, Rotation};
use arkeep_transport::ca::{
    CertificateAuthority, CertificateChain, IssueError, IssueRequest, LoadCaError, LocalCa,
};
use arkeep_transport::trust::{SpkiFingerprint, TrustBundle, TrustDigest};
use arkeep_vault::Sealer;
use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::keys::{self, KeysError};
use crate::failpoint;
use crate::store::rotation::{Follower, Step, StoredRotation};
use crate::store::{KeyStore, RotationStore};

pub(crate) use following::Following;
pub use status::{Behind, Lack, Root, RootState, Status};

/// Vouches for agents, through every replacement of its root.
#[derive(Debug)]
pub struct Authority {
    parts: AuthorityParts,
    in_force: RwLock<Arc<InForce>>,
    changing: tokio::sync::Mutex<()>,
    connected: Mutex<HashMap<AgentId, following::Connected>>,
    due: Notify,
}

/// What an [`Authority`] stands on.
#[derive(Debug, Clone)]
pub struct AuthorityParts {
    /// Keeps the roots' keys.
    pub keys: Arc<dyn KeyStore>,
    /// Keeps how far a rotation has come.
    pub rotations: Arc<dyn RotationStore>,
    /// Seals the roots' keys.
    pub sealer: Arc<dyn Sealer>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// What this process acts by.
#[derive(Debug)]
struct InForce {
    stored: StoredRotation,
    signer: LocalCa,
    /// The other root that is trusted, and not the one that signs.
    other: Option<LocalCa>,
    bundle: TrustBundle,
}

impl InForce {
    fn of(sealer: &dyn Sealer, stored: StoredRotation) -> Result<Self, KeysError> {
        let old = keys::authority_from(sealer, &stored.old)?;
        let new = stored.new.as_ref();
        let new = new
            .map(|new| keys::authority_from(sealer, new))
            .transpose()?;
        let (signer, other) = match (stored.rotation.phase, new) {
            (Phase::Issuing, Some(new)) => (new, Some(old)),
            (_, new) => (old, new),
        };
        let roots = [Some(&signer), other.as_ref()];
        let roots = roots.into_iter().flatten().map(|ca| ca.root_der().to_vec());
        let bundle = TrustBundle::new(roots).map_err(|_| LoadCaError::Certificate)?;
        Ok(Self {
            stored,
            signer,
            other,
            bundle,
        })
    }
}

impl Authority {
    /// Takes up what is stored. The first server of all makes the first root.
    ///
    /// # Errors
    ///
    /// [`KeysError`]
    pub async fn open(parts: AuthorityParts) -> Result<Self, KeysError> {
        let now = parts.clock.now();
        keys::establish_authority(parts.keys.as_ref(), parts.sealer.as_ref(), now).await?;
        let opened = Self::open_existing(parts).await?;
        Ok(opened.ok_or_else(|| StoreError::Corrupt("there is no root in force".to_owned()))?)
    }

    /// Takes up what is stored, if anything is.
    ///
    /// # Errors
    ///
    /// [`KeysError`]
    pub async fn open_existing(parts: AuthorityParts) -> Result<Option<Self>, KeysError> {
        let Some(stored) = parts.rotations.rotation().await? else {
            return Ok(None);
        };
        let in_force = InForce::of(parts.sealer.as_ref(), stored)?;
        Ok(Some(Self {
            parts,
            in_force: RwLock::new(Arc::new(in_force)),
            changing: tokio::sync::Mutex::new(()),
            connected: Mutex::default(),
            due: Notify::new(),
        }))
    }

    /// The root under which it signs now: join tokens name the server by it.
    #[must_use]
    pub fn root(&self) -> SpkiFingerprint {
        self.in_force().signer.fingerprint()
    }

    /// Where the rotation stands, as far as this process knows.
    #[must_use]
    pub fn rotation(&self) -> Rotation {
        self.in_force().stored.rotation
    }

    /// Takes the next step of a rotation, or begins one.
    ///
    /// With [`Patience::None`] it goes on without the agents that are behind, which have to enrol
    /// anew.
    ///
    /// # Errors
    ///
    /// [`RotateError`]. Nothing has changed then.
    pub async fn rotate(&self, patience: Patience) -> Result<(), RotateError> {
        let _one_at_a_time = self.changing.lock().await;
        self.look().await?;
        self.step(patience).await
    }

    /// Looks what is written, acts by it, and goes on with a rotation that is under way when
    /// everybody is ready. Says who is not.
    ///
    /// # Errors
    ///
    /// [`RotateError`], never [`RotateError::NotYet`].
    pub async fn proceed(&self) -> Result<Vec<AgentId>, RotateError> {
        let _one_at_a_time = self.changing.lock().await;
        self.look().await?;
        if self.rotation().phase == Phase::Settled {
            return Ok(Vec::new());
        }
        match self.step(Patience::Full).await {
            Ok(()) => Ok(Vec::new()),
            Err(RotateError::NotYet(NotYet::Behind(agents))) => Ok(agents),
            Err(RotateError::NotYet(_)) => Ok(Vec::new()),
            Err(other) => Err(other),
        }
    }

    /// Proceeds now and then, and whenever an agent has followed, until `stop`.
    pub async fn work(&self, stop: CancellationToken) {
        loop {
            match self.proceed().await {
                Ok(behind) => self.ask_for_renewals(&behind),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the rotation of the root cannot be looked at");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => continue,
                () = self.due.notified() => {}
            }
            // A whole fleet may follow within a second.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TOGETHER) => {}
            }
        }
    }

    /// Says how things stand.
    ///
    /// # Errors
    ///
    /// [`RotateError`]
    pub async fn status(&self) -> Result<Status, RotateError> {
        self.look_alone().await?;
        let fleet = self.parts.rotations.fleet().await?;
        Ok(Status::of(&self.in_force(), &fleet))
    }

    /// The roots to tell an agent that says it trusts these.
    ///
    /// An agent that trusts others than this process may know more: another replica has told it.
    /// Telling it the old ones would take back what that replica counts on, so this looks first.
    ///
    /// # Errors
    ///
    /// [`RotateError`]
    pub async fn answer(&self, trust: TrustDigest) -> Result<TrustBundle, RotateError> {
        if self.in_force().bundle.digest() != trust {
            self.look_alone().await?;
        }
        Ok(self.in_force().bundle.clone())
    }

    async fn look_alone(&self) -> Result<(), RotateError> {
        let _one_at_a_time = self.changing.lock().await;
        self.look().await
    }

    /// Acts by what is written.
    async fn look(&self) -> Result<(), RotateError> {
        let stored = self.parts.rotations.rotation().await?;
        let stored = stored.ok_or_else(|| StoreError::Corrupt("no root is in force".to_owned()))?;
        let seen = &self.in_force().stored;
        let is_known = seen.rotation == stored.rotation && seen.old.id == stored.old.id;
        if !is_known {
            let (phase, since) = (stored.rotation.phase.as_str(), stored.rotation.since);
            let next = Arc::new(InForce::of(self.parts.sealer.as_ref(), stored)?);
            let fingerprint = next.signer.fingerprint();
            let in_force = self.in_force.write();
            *in_force.unwrap_or_else(PoisonError::into_inner) = next;
            tracing::info!(phase, %since, %fingerprint, "the rotation of the root has come further");
        }
        Ok(())
    }

    async fn step(&self, patience: Patience) -> Result<(), RotateError> {
        let now = self.parts.clock.now();
        let in_force = self.in_force();
        let rotation = in_force.stored.rotation;
        // Too early is known without a look at the fleet.
        rotation.next(&[], patience, now)?;
        let fleet = match rotation.phase {
            Phase::Settled => Vec::new(),
            Phase::Announced | Phase::Issuing => self.parts.rotations.fleet().await?,
        };
        let digest = in_force.bundle.digest();
        let members: Vec<_> = fleet.iter().map(|agent| agent.member(digest)).collect();
        let next = rotation.next(&members, patience, now)?;
        if patience == Patience::None {
            self.name_those_left_behind(&rotation, &fleet);
        }
        self.enter(&rotation, next.phase, now).await?;
        self.look().await
    }

    async fn enter(
        &self,
        seen: &Rotation,
        phase: Phase,
        now: Timestamp,
    ) -> Result<(), RotateError> {
        let sealer = self.parts.sealer.as_ref();
        let new = match phase {
            Phase::Announced => Some(keys::new_authority(sealer, now)?),
            Phase::Issuing | Phase::Settled => None,
        };
        failpoint::hit("ca.decided");
        let step = match (phase, &new) {
            (Phase::Announced, Some(new)) => Step::Announce(new),
            (Phase::Settled, _) => Step::Settle,
            _ => Step::Issue,
        };
        let taken = self.parts.rotations.advance(seen, step, now).await?;
        failpoint::hit("ca.stored");
        match taken {
            true => Ok(()),
            false => Err(RotateError::Moved),
        }
    }

    fn name_those_left_behind(&self, rotation: &Rotation, fleet: &[Follower]) {
        let digest = self.in_force().bundle.digest();
        let members: Vec<_> = fleet.iter().map(|agent| agent.member(digest)).collect();
        for agent in rotation.waits_for(&members) {
            tracing::warn!(%agent, "the rotation of the root goes on without this agent");
        }
    }

    fn in_force(&self) -> Arc<InForce> {
        let in_force = self.in_force.read();
        Arc::clone(&in_force.unwrap_or_else(PoisonError::into_inner))
    }

    fn connected(&self) -> MutexGuard<'_, HashMap<AgentId, following::Connected>> {
        let connected = self.connected.lock();
        connected.unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CertificateAuthority for Authority {
    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        Ok(self.in_force().bundle.clone())
    }

    async fn fingerprint(&self) -> Result<SpkiFingerprint, IssueError> {
        Ok(self.root())
    }

    async fn issue(&self, request: IssueRequest<'_>) -> Result<CertificateChain, IssueError> {
        // The certificate is recorded there in a moment anyway, and a root that was withdrawn
        // meanwhile must sign nothing.
        let looked = self.look_alone().await;
        looked.map_err(|error| IssueError::Unavailable(Box::new(error)))?;
        self.in_force().signer.issue(request).await
    }
}

/// A rotation did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// Not everybody is ready, or it is too early. Wait, or go on without patience.
    #[error(transparent)]
    NotYet(#[from] NotYet),

    /// Somebody else took a step in the same moment. Look again.
    #[error("the rotation has gone on in the meantime; look again")]
    Moved,

    /// A root's key cannot be had.
    #[error(transparent)]
    Keys(#[from] KeysError),

    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How often to look what is written. Far below
/// [`REPLICAS_LAG`](arkeep_transport::ca::rotation::REPLICAS_LAG).
const EVERY: Duration = Duration::from_secs(5);

/// How long to wait for others when an agent has followed.
const TOGETHER: Duration = Duration::from_millis(500);
