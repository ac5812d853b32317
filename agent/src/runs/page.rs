//! Lists runs: a page of those that are asked for, newest first.
//!
//! Living runs are found in memory, however old they are; all others by walking the store backwards.
//! Invariants: a page has at most [`MAX_PAGE`] runs and about [`MAX_BYTES`] bytes, and at least one run
//! when there is one; `next` continues where the look ended, also when nothing was found.

use hpcclient_protocol::{Command, Run, RunId, RunState, SessionId, run::RunList};

use super::{RunError, Runs, live_run::lock};

/// Which runs a list is of; what is not set does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this session.
    pub session: Option<SessionId>,
    /// With this in the command or the name, whatever the case.
    pub text: Option<String>,
    /// In this state.
    pub state: Option<RunState>,
    /// Whether it has a terminal.
    pub console: Option<bool>,
    /// Whether it lives on this node.
    pub live: Option<bool>,
}

impl Filter {
    fn takes(&self, run: &Run) -> bool {
        let session = self.session.as_ref();
        session.is_none_or(|session| run.spec.session.as_ref() == Some(session))
            && self.state.is_none_or(|state| run.state == state)
            && self.console.is_none_or(|yes| run.spec.pty.is_some() == yes)
            && self.live.is_none_or(|yes| run.live == yes)
            && self.text.as_ref().is_none_or(|text| has_text(run, text))
    }

    const fn is_any(&self) -> bool {
        self.session.is_none()
            && self.text.is_none()
            && self.state.is_none()
            && self.console.is_none()
            && self.live.is_none()
    }
}

fn has_text(run: &Run, text: &str) -> bool {
    let text = text.to_lowercase();
    let name = run.name.as_ref();
    name.is_some_and(|name| name.to_lowercase().contains(&text))
        || run.spec.command.to_line().to_lowercase().contains(&text)
}

/// A page while it fills.
struct Page {
    runs: Vec<Run>,
    limit: usize,
    bytes: usize,
}

impl Page {
    /// Adds a run. Returns `false` when there is no room for it.
    fn add(&mut self, run: Run) -> bool {
        let bytes = weight(&run);
        let fits = self.runs.len() < self.limit && self.bytes + bytes <= MAX_BYTES;
        if fits || self.runs.is_empty() {
            self.bytes += bytes;
            self.runs.push(run);
            return true;
        }
        false
    }

    fn ends(self, next: Option<RunId>) -> RunList {
        RunList {
            runs: self.runs,
            next,
        }
    }
}

impl Runs {
    /// Returns a page of runs, newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn list(
        &self,
        before: Option<RunId>,
        limit: usize,
        filter: Filter,
    ) -> Result<RunList, RunError> {
        let page = Page {
            runs: Vec::new(),
            limit: limit.clamp(1, MAX_PAGE),
            bytes: 0,
        };
        if filter.live == Some(true) {
            return Ok(self.living(page, before, &filter));
        }
        let runs = self.clone();
        self.blocking(move || runs.stored_page(page, before, &filter))
            .await
    }

    fn living(&self, mut page: Page, before: Option<RunId>, filter: &Filter) -> RunList {
        let all = lock(&self.0.live);
        let mut living: Vec<_> = all
            .values()
            .filter(|live| live.dir().is_some() && before.is_none_or(|before| live.id() < before))
            .cloned()
            .collect();
        drop(all);
        living.sort_unstable_by_key(|live| std::cmp::Reverse(live.id()));
        for live in living {
            live.look.notify_one();
            let run = live.to_run();
            let last = page.runs.last().map(|run| run.id);
            if filter.takes(&run) && !page.add(run) {
                return page.ends(last);
            }
        }
        page.ends(None)
    }

    fn stored_page(
        &self,
        mut page: Page,
        before: Option<RunId>,
        filter: &Filter,
    ) -> Result<RunList, RunError> {
        // Each look lists a month anew: a filter that takes few must not make many looks.
        let batch = if filter.is_any() {
            page.limit
        } else {
            page.limit.max(MAX_PAGE)
        };
        let (mut from, mut looked) = (before, 0);
        loop {
            let dirs = self.0.store.newest(from, batch)?;
            looked += dirs.len();
            let is_last = dirs.len() < batch;
            for dir in dirs {
                // A folder that went away since it was listed is no run any more.
                if let Ok(run) = self.read(&dir)
                    && filter.takes(&run)
                    && !page.add(run)
                {
                    return Ok(page.ends(from));
                }
                from = Some(dir.id());
            }
            if is_last {
                return Ok(page.ends(None));
            }
            if looked >= MAX_LOOKED || page.runs.len() == page.limit {
                return Ok(page.ends(from));
            }
        }
    }
}

/// Returns about how many bytes a run is as JSON.
fn weight(run: &Run) -> usize {
    let spec = &run.spec;
    let command = match &spec.command {
        Command::Shell(line) => line.as_bytes().len(),
        Command::Argv(argv) => argv.iter().map(|word| word.as_bytes().len() + 3).sum(),
        Command::LoginShell => 0,
    };
    let pairs = spec.env.iter();
    let env: usize = pairs
        .map(|(name, value)| name.len() + value.as_bytes().len() + 6)
        .sum();
    REST + command + env
}

const MAX_PAGE: usize = 500;

/// What a page of runs with large specs may have.
const MAX_BYTES: usize = 1 << 20;

/// A run without what its user wrote.
const REST: usize = 600;

/// What is asked for may be spread over many runs of others; then the next page goes on.
const MAX_LOOKED: usize = 2000;

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{RunSpec, run::TerminalSize};

    use super::*;
    use crate::store::Store;

    fn run(line: &str) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("runs")).unwrap();
        let spec = RunSpec::new(Command::Shell(line.into()));
        let dir = store.create(RunId::random(), &spec, 7, "node").unwrap();
        dir.load().unwrap()
    }

    #[test]
    fn a_filter_takes_what_matches_all_of_it() {
        let mut console = run("htop");
        console.spec.pty = Some(TerminalSize { cols: 80, rows: 24 });
        console.name = Some("Ünter Der Lupe".to_owned());
        let takes = |filter: Filter| filter.takes(&console);
        assert!(takes(Filter::default()));
        let text = |text: &str| Filter {
            text: Some(text.to_owned()),
            ..Filter::default()
        };
        assert!(takes(text("TOP")) && takes(text("ünter der")) && !takes(text("vim")));
        let mut both = text("top");
        both.console = Some(true);
        both.state = Some(RunState::Queued);
        assert!(takes(both.clone()));
        both.live = Some(true);
        assert!(!takes(both));
    }

    #[test]
    fn a_page_is_cut_by_bytes_and_never_empty() {
        let mut page = Page {
            runs: vec![],
            limit: 10,
            bytes: 0,
        };
        let huge = run(&"x".repeat(MAX_BYTES));
        assert!(page.add(huge.clone()) && !page.add(huge));
        let json = serde_json::to_string(&run("true")).unwrap();
        assert!(json.len() < REST, "{}", json.len());
    }
}
