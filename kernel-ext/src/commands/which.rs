//! Which run a command means: by its id, the beginning or end of it, or its name.
//!
//! Used by every verb that is about one run.

use hpcclient_client::RunQuery;
use hpcclient_protocol::{ApiError, ErrorCode, Run, RunId};
use hpcclient_ssh::visible;

use super::{ClusterOption, login};

/// How far back a shortened id or a name is searched.
const SEARCHED: usize = 500;

/// The run that a command is about.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgument {
    #[command(flatten)]
    pub(super) cluster: ClusterOption,
    /// The run's id, or its beginning or end, or its name.
    #[arg(value_name = "RUN")]
    pub(super) run: String,
}

impl RunArgument {
    /// Returns the cluster and the run.
    pub(super) async fn find(self) -> anyhow::Result<(String, RunId)> {
        let cluster = self.cluster.cluster;
        let id = find(&cluster, &self.run).await?;
        Ok((cluster, id))
    }
}

/// Finds a run of a cluster.
pub(super) async fn find(cluster: &str, text: &str) -> anyhow::Result<RunId> {
    match text.parse() {
        Ok(id) => Ok(id),
        Err(_) => Ok(pick(&newest(cluster, RunQuery::default()).await?, text)?),
    }
}

/// Returns the newest runs of a kind, as far back as is searched.
pub(super) async fn newest(cluster: &str, query: RunQuery) -> anyhow::Result<Vec<Run>> {
    let query = RunQuery {
        limit: Some(SEARCHED),
        ..query
    };
    let list = login::with_agent(cluster, |agent| {
        let query = query.clone();
        async move { agent.list(&query).await }
    });
    Ok(list.await?.runs)
}

/// Picks the one run that a text fits. A name counts only where no id does: of equal names the newest run's.
pub(super) fn pick(runs: &[Run], text: &str) -> Result<RunId, ApiError> {
    if text.is_empty() {
        return Err(ApiError::new(ErrorCode::BadRequest, "the run has no name"));
    }
    if let Some(id) = pick_id(runs.iter().map(|run| run.id), text)? {
        return Ok(id);
    }
    let named = runs.iter().find(|run| run.name.as_deref() == Some(text));
    named.map(|run| run.id).ok_or_else(|| {
        let text = visible(text);
        let message = format!("there is no run `{text}` among the newest {SEARCHED}");
        ApiError::new(ErrorCode::NotFound, message).hint("`hpcclient runs` lists them")
    })
}

/// Picks the one id that begins or ends with a text.
pub(super) fn pick_id(
    ids: impl Iterator<Item = RunId>,
    text: &str,
) -> Result<Option<RunId>, ApiError> {
    let mut found = ids.filter(|id| {
        let full = id.to_string();
        full.starts_with(text) || full.ends_with(text)
    });
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => {
            let message = format!("`{}` fits more than one run", visible(text));
            Err(ApiError::new(ErrorCode::BadRequest, message).hint("type more of the id"))
        }
        (id, _) => Ok(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str, name: Option<&str>) -> Run {
        let json = serde_json::json!({
            "id": id, "name": name, "spec": {"command": {"shell": "x"}}, "state": "running", "createdMs": 0,
            "host": "h",
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_shortened_id_or_a_name_must_fit_one_run() {
        let runs = [
            run("0199f3a2-7c1e-7b04-9a6e-2f1d4c5b6a70", Some("fit")),
            run("0199f3a2-7c1e-7b04-9a6e-2f1d4c5b6a71", Some("fit")),
            run("0199f3a1-7c1e-7b04-9a6e-2f1d4c5b6a72", Some("0199")),
        ];
        assert_eq!(pick(&runs, "6a71").unwrap(), runs[1].id);
        assert_eq!(pick(&runs, "fit").unwrap(), runs[0].id);
        assert_eq!(pick(&runs, "0199").unwrap_err().code, ErrorCode::BadRequest);
        assert_eq!(pick(&runs, "").unwrap_err().code, ErrorCode::BadRequest);
        assert_eq!(pick(&runs, "ffff").unwrap_err().code, ErrorCode::NotFound);
    }
}
