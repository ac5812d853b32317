//! What this user shares with other users of the node, and for how long.
//!
//! Called by `http::shares` for the owner and by `http::guests` for those who come; `keeper` holds the
//! door open while there is a share.
//! Invariants: a share is on the disk before it is told, and gone from the disk before its end is; a
//! guest is who the kernel says, and the name that was shared with; a share's end cancels its token, and
//! every connection that it let in ends with it. A share ends by the clock since boot, which nobody can
//! set, so a jump of the wall clock neither ends one early nor prolongs it.
//! Not here: the socket (`door`), what a guest may ask (`http::guests`), the guest's side (`away`).

pub mod audit;
pub mod away;
mod door;
mod grant;
mod keeper;
mod names;
mod policy;
mod record;

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hpcclient_protocol::{
    ApiError, ErrorCode, RunId, ShareId,
    live::Access,
    share::{Share, ShareSpec, SharedObject},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::record::Record;
pub use self::{
    audit::Audit,
    grant::Grant,
    keeper::{Leash, start},
    names::{Names, User},
};
use crate::{
    clock,
    files::{QueryPath, RegularFile},
    http::failure,
    place::Place,
    runs::Runs,
    shim,
};

/// The shares of this user on this node; clones are the same.
#[derive(Clone, Debug)]
pub struct Shares(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    owner: String,
    home: PathBuf,
    folder: PathBuf,
    boot_id: String,
    policy: PathBuf,
    names: Names,
    audit: Audit,
    active: Mutex<BTreeMap<ShareId, Active>>,
    /// Nobody is let in: the site has turned sharing off. Set by the keeper.
    shut: AtomicBool,
    /// Orders changes, so that the disk and the list agree; held until the disk has answered.
    changing: Arc<Semaphore>,
    keeper: mpsc::Sender<Reply>,
    /// Taken by the keeper when it starts.
    calls: Mutex<Option<mpsc::Receiver<Reply>>>,
}

/// Where the keeper says whether the door is as it has to be.
type Reply = oneshot::Sender<Result<(), ApiError>>;

#[derive(Clone, Debug)]
struct Active {
    record: Arc<Record>,
    /// By the clock since boot, in milliseconds.
    ends_at: Option<u64>,
    ended: CancellationToken,
}

impl Shares {
    /// Makes the list; it is empty until [`start`].
    #[must_use]
    pub fn new(place: &Place, owner: &str) -> Self {
        let (keeper, calls) = mpsc::channel(16);
        let folder = place.node_folder();
        Self(Arc::new(Inner {
            owner: owner.to_owned(),
            home: place.home().to_owned(),
            audit: Audit::new(&folder),
            folder: folder.join("shares"),
            boot_id: shim::boot_id().unwrap_or_default(),
            policy: policy::PATH.into(),
            names: Names::default(),
            active: Mutex::default(),
            shut: AtomicBool::new(false),
            changing: Arc::new(Semaphore::new(1)),
            keeper,
            calls: Mutex::new(Some(calls)),
        }))
    }

    /// Returns the record of what guests did.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Returns the login names of this node.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.0.names
    }

    /// Returns why sharing is off here, if it is.
    pub async fn off(&self) -> Option<String> {
        let path = self.0.policy.clone();
        crate::tasks::blocking(move || policy::why_off(&path))
            .await
            .unwrap_or_else(|_| Some("the policy could not be read".to_owned()))
    }

    /// Returns what is shared, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Share> {
        let active = self.lock();
        let shares = active.values().rev().filter(|active| active.is_on());
        shares.map(|active| active.record.share.clone()).collect()
    }

    /// Returns the runs that are shared with anybody, so that they must not be deleted.
    #[must_use]
    pub fn runs(&self) -> HashSet<RunId> {
        let active = self.lock();
        let on = active.values().filter(|active| active.is_on());
        on.filter_map(|active| active.record.run()).collect()
    }

    /// Shares something, or finds the share that has this id already.
    ///
    /// # Errors
    /// `Forbidden` where a policy has turned sharing off; `BadRequest` names what cannot be; `Conflict`
    /// when the id is taken by another share; `NotFound` for what does not exist.
    pub async fn add(
        &self,
        runs: &Runs,
        id: ShareId,
        spec: ShareSpec,
    ) -> Result<(Share, bool), ApiError> {
        if let Some(reason) = self.off().await {
            // What was shared before the site said so is shut at once.
            let _shut = self.call_keeper().await;
            let what = format!("sharing is off on this cluster: {reason}");
            return Err(ApiError::new(ErrorCode::Forbidden, what));
        }
        let changing = self.change().await?;
        if let Some(known) = self.lock().get(&id) {
            if known.record.asked == spec {
                return Ok((known.record.share.clone(), false));
            }
            let what = "this id is taken by another share";
            return Err(ApiError::new(ErrorCode::Conflict, what).hint("use a new id"));
        }
        if self.lock().len() >= MAX_SHARES {
            let what = format!("{MAX_SHARES} things are shared, which is the limit");
            return Err(ApiError::new(ErrorCode::Unavailable, what).hint("take some back"));
        }
        let record = self.complete(runs, id, spec).await?;
        let share = record.share.clone();
        let record = Arc::new(record);
        let changing = self.keep(&record, changing).await?;
        self.activate(&record);
        drop(changing);
        let called = self.call_keeper().await;
        // Only from here on the run is not deleted.
        if let Err(error) = called.and(self.check_is_there(runs, &share).await) {
            let _unshared = self.remove(id).await;
            return Err(error);
        }
        Ok((share, true))
    }

    async fn check_is_there(&self, runs: &Runs, share: &Share) -> Result<(), ApiError> {
        let SharedObject::Run { run, .. } = &share.spec.object else {
            return Ok(());
        };
        let found = runs.get(*run).await;
        found.map_err(|error| failure::api_error(&error))?;
        Ok(())
    }

    /// Writes a share to the disk; one that is not written in time is taken away again when it is.
    async fn keep(
        &self,
        record: &Arc<Record>,
        changing: OwnedSemaphorePermit,
    ) -> Result<OwnedSemaphorePermit, ApiError> {
        let (folder, kept) = (self.0.folder.clone(), Arc::clone(record));
        // Set by whoever comes first: the disk, or the end of the patience with it.
        let settled = Arc::new(AtomicBool::new(false));
        let disk = Arc::clone(&settled);
        let writing = crate::tasks::blocking(move || {
            let written = record::write(&folder, &kept);
            if disk.swap(true, Ordering::AcqRel) || written.is_err() {
                // It must not come alive when the agent starts again.
                if let Err(error) = record::remove(&folder, kept.share.id) {
                    tracing::warn!(%error, "a share that was not made cannot be removed");
                }
            }
            // Until here no other change comes between, however long the disk takes.
            written.map(|()| changing)
        });
        tokio::pin!(writing);
        if let Ok(written) = timeout(DISK_LIMIT, &mut writing).await {
            return written.map_err(|_| late())?;
        }
        if settled.swap(true, Ordering::AcqRel) {
            // It was written at the last moment.
            let written = timeout(DISK_LIMIT, writing).await;
            return written.map_err(|_| late())?.map_err(|_| late())?;
        }
        Err(late())
    }

    /// Ends a share; whoever it let in is cut. Returns whether there was one.
    ///
    /// # Errors
    /// It cannot be removed from the disk; it has ended until the agent starts again. Ending it once more
    /// removes what is left.
    pub async fn remove(&self, id: ShareId) -> Result<bool, ApiError> {
        // At once: a share that is being made, or a disk, may take its time.
        let mut was_on = self.end(id);
        let changing = self.change().await?;
        // One that was being made meanwhile.
        was_on |= self.end(id);
        let folder = self.0.folder.clone();
        let was_kept = blocking(move || {
            let _changing = changing;
            record::remove(&folder, id)
        });
        Ok(was_kept.await? || was_on)
    }

    /// Ends a share for those whom it let in.
    fn end(&self, id: ShareId) -> bool {
        let Some(active) = self.lock().remove(&id) else {
            return false;
        };
        active.ended.cancel();
        // Nobody waits for it: the door only closes when nothing is shared any more.
        let (reply, _unheard) = oneshot::channel();
        let _busy = self.0.keeper.try_send(reply);
        true
    }

    /// Waits for the change before this one.
    async fn change(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let turn = timeout(DISK_LIMIT, Arc::clone(&self.0.changing).acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or_else(late)
    }

    /// Checks what was asked for against what there is, and fills in what was left open.
    async fn complete(
        &self,
        runs: &Runs,
        id: ShareId,
        asked: ShareSpec,
    ) -> Result<Record, ApiError> {
        let bad = |what: &str| ApiError::new(ErrorCode::BadRequest, what);
        let created_ms = clock::now_ms();
        let mut spec = asked.clone();
        if spec.guests.is_empty() || spec.guests.len() > MAX_GUESTS {
            return Err(bad(&format!("a share has 1 to {MAX_GUESTS} guests")));
        }
        let mut guests = Vec::new();
        for name in &spec.guests {
            let Some(user) = self.0.names.user(name).await else {
                let what = format!("there is no user `{name}` on this node");
                return Err(ApiError::new(ErrorCode::NotFound, what)
                    .hint("guests are named by their login names on the cluster"));
            };
            if user.uid == rustix::process::getuid().as_raw() {
                return Err(bad("this is already yours: name somebody else"));
            }
            if !guests.contains(&user) {
                guests.push(user);
            }
        }
        spec.guests = guests.iter().map(|user| user.name.clone()).collect();
        let mut inode = None;
        let title = match &mut spec.object {
            SharedObject::Run { run, streams } => {
                let run = runs.get(*run).await;
                let run = run.map_err(|error| failure::api_error(&error))?;
                *streams = record::narrowed(streams, run.spec.pty.is_some())?;
                if !streams.is_empty() && spec.access == Access::Drive {
                    return Err(bad(
                        "one stream can only be viewed; share the whole run to let it be driven",
                    ));
                }
                run.name.unwrap_or_else(|| run.spec.command.to_line())
            }
            SharedObject::File { path } => {
                if spec.access == Access::Drive {
                    return Err(bad("a file can only be viewed"));
                }
                let asked = QueryPath::from_bytes(path.as_bytes()).resolve(&self.0.home)?;
                let file = blocking(move || Ok(RegularFile::own(&asked)?)).await?;
                inode = Some(file.inode());
                *path = record::bytes_of(file.path());
                path.to_lossy()
            }
        };
        let longest = created_ms + u64::try_from(LONGEST_DRIVE.as_millis()).unwrap_or(u64::MAX);
        match spec.expires_ms {
            Some(at) if at <= created_ms => {
                return Err(bad("the share would end before it begins"));
            }
            Some(at) if at > longest && spec.access == Access::Drive => {
                return Err(bad("a share that lets others type ends within 7 days"));
            }
            None if spec.access == Access::Drive => spec.expires_ms = Some(longest),
            _ => {}
        }
        let ends_boot_ms = spec
            .expires_ms
            .map(|at| clock::since_boot_ms() + (at - created_ms));
        let share = Share {
            id,
            owner: self.0.owner.clone(),
            spec,
            title: record::one_line(&title),
            created_ms,
        };
        Ok(Record {
            asked,
            share,
            guests,
            boot_id: self.0.boot_id.clone(),
            ends_boot_ms,
            inode,
        })
    }

    fn activate(&self, record: &Arc<Record>) {
        let ends_at = record.ends_at(&self.0.boot_id);
        let active = Active {
            ends_at,
            ended: CancellationToken::new(),
            record: Arc::clone(record),
        };
        self.lock().insert(record.share.id, active);
    }

    /// Has the door opened or closed as it has to be.
    async fn call_keeper(&self) -> Result<(), ApiError> {
        let (reply, done) = oneshot::channel();
        let called = async {
            self.0.keeper.send(reply).await.ok()?;
            done.await.ok()
        };
        match timeout(KEEPER_LIMIT, called).await {
            Ok(Some(done)) => done,
            _ => Err(ApiError::new(
                ErrorCode::Unavailable,
                "the agent is stopping or busy",
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShareId, Active>> {
        // What a panicking thread left is still whole here.
        self.0.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Active {
    fn is_on(&self) -> bool {
        !self.ended.is_cancelled() && self.ends_at.is_none_or(|at| clock::since_boot_ms() < at)
    }
}

/// Does file work on the blocking pool.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = timeout(DISK_LIMIT, crate::tasks::blocking(work)).await;
    done.map_err(|_| late())?.map_err(|_| late())?
}

fn late() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "the file system does not answer")
}

/// More than a person keeps in mind.
const MAX_SHARES: usize = 256;

const MAX_GUESTS: usize = 32;

/// Whoever lets others type does so for a time (view shares may last until they are taken back).
const LONGEST_DRIVE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

const KEEPER_LIMIT: Duration = Duration::from_secs(10);

const DISK_LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{Command, RunSpec, RunState};

    use super::*;
    use crate::{
        environment::Environment,
        store::{RunRecord, Store},
        tasks::Tasks,
    };

    #[tokio::test]
    async fn a_run_that_is_deleted_while_it_is_shared_is_not_shared() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::at(root.path().join("state"), root.path().to_owned()).unwrap();
        let store = Store::open(place.runs()).unwrap();
        let (tracker, stopping) = (Tasks::default(), CancellationToken::new());
        let environment = Environment::start(&tracker, &stopping);
        let run_dir = place.run_dir().to_owned();
        let spec = RunSpec::new(Command::Shell("true".into()));
        let dir = store
            .create(RunId::random(), &spec, 1, place.host())
            .unwrap();
        dir.write_record(&RunRecord::new(RunState::Exited)).unwrap();
        let shares = Shares::new(&place, "alice");
        let runs = Runs::new(store.clone(), place, environment, tracker, stopping);
        let spec = ShareSpec {
            object: SharedObject::Run {
                run: dir.id(),
                streams: vec![],
            },
            guests: vec!["daemon".to_owned()],
            access: Access::View,
            expires_ms: None,
        };
        let mut calls = shares.0.calls.lock().unwrap().take().unwrap();
        // In the keeper's place: the run goes before it is known as shared.
        let keeping = async {
            let call = calls.recv().await.unwrap();
            store.delete(&dir).unwrap();
            runs.set_shared(shares.runs());
            call.send(Ok(())).unwrap();
        };
        let (added, ()) = tokio::join!(shares.add(&runs, ShareId::random(), spec.clone()), keeping);
        assert_eq!(added.unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(shares.list(), []);
        assert_eq!(record::read_all(&shares.0.folder), []);
        std::fs::remove_dir_all(run_dir).unwrap();
    }
}
