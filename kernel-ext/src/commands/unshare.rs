//! `hpcclient unshare`: takes back one share, or all of a run or a file.

use std::io::Write as _;

use hpcclient_protocol::{
    ApiError, ErrorCode, ShareId,
    share::{Share, SharedObject},
};

use super::{ClusterOption, login};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterOption,
    /// The id of a share or of a run, its beginning or end; or the path of a shared file.
    #[arg(value_name = "SHARE|RUN|PATH")]
    what: String,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let cluster = args.cluster.cluster;
    let list = login::with_agent(&cluster, |agent| async move { agent.shares().await }).await?;
    for id in pick(&list.by_me, &args.what)? {
        login::with_agent(&cluster, |agent| async move { agent.unshare(id).await }).await?;
        writeln!(std::io::stdout(), "{id}")?;
    }
    Ok(0)
}

fn pick(shares: &[Share], text: &str) -> Result<Vec<ShareId>, ApiError> {
    let object = |share: &Share| match &share.spec.object {
        SharedObject::Run { run, .. } => run.to_string(),
        SharedObject::File { path } => path.to_lossy(),
    };
    let fits = |id: &str| id.starts_with(text) || id.ends_with(text);
    let found: Vec<&Share> = shares
        .iter()
        .filter(|share| fits(&share.id.to_string()) || fits(&object(share)))
        .collect();
    let Some(first) = found.first().filter(|_| !text.is_empty()) else {
        let message = format!("you share nothing that is called `{text}`");
        return Err(ApiError::new(ErrorCode::NotFound, message)
            .hint("`hpcclient shares` lists what you share"));
    };
    // Several shares of one object are one answer; several objects are none.
    if found.iter().any(|share| object(share) != object(first)) {
        let message = format!("`{text}` fits more than one share");
        return Err(ApiError::new(ErrorCode::BadRequest, message).hint("type more of it"));
    }
    Ok(found.iter().map(|share| share.id).collect())
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{RunId, live::Access, share::ShareSpec};

    use super::*;

    fn share(object: SharedObject) -> Share {
        Share {
            id: ShareId::random(),
            owner: "alice".to_owned(),
            spec: ShareSpec {
                object,
                guests: vec!["bob".to_owned()],
                access: Access::View,
                expires_ms: None,
            },
            title: String::new(),
            created_ms: 0,
        }
    }

    #[test]
    fn one_object_is_meant_and_all_its_shares_end() {
        let run = RunId::random();
        let of_run = || {
            share(SharedObject::Run {
                run,
                streams: vec![],
            })
        };
        let file = share(SharedObject::File {
            path: "/home/alice/x".into(),
        });
        let all = [of_run(), of_run(), file];
        assert_eq!(
            pick(&all, &run.to_string()).unwrap(),
            [all[0].id, all[1].id]
        );
        assert_eq!(pick(&all, &all[1].id.to_string()).unwrap(), [all[1].id]);
        assert_eq!(pick(&all, "/home/alice/x").unwrap(), [all[2].id]);
        assert_eq!(pick(&all, "nothing").unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(pick(&all, "").unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(pick(&[], "").unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(pick(&all, "0").unwrap_err().code, ErrorCode::BadRequest);
    }
}
