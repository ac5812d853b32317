//! A shared file.

use std::{fs, os::unix::fs::symlink, path::Path};

use hpcclient_protocol::{ByteString, RunId, live::Access, share::SharedObject};
use http::StatusCode;

use super::super::visit::{BOB, CAROL, door, get, revoke, share, spec};
use crate::node::{Node, with_tasks};

#[test]
fn a_shared_file_is_that_file_and_no_other() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let (path, secret) = (node.home().join("result é.txt"), node.home().join("secret"));
        fs::write(&path, "shown").unwrap();
        fs::write(&secret, "hidden").unwrap();
        let object = |path: &Path| SharedObject::File {
            path: ByteString::from(path.to_string_lossy().into_owned()),
        };
        let mut view = spec(RunId::random(), &[BOB.0], Access::View);
        view.object = object(&path);
        let shared = share(&client, &view).await;
        let door = door(&node).await;
        let encoded = |path: &Path| {
            format!(
                "/v1/file?path={}",
                path.display()
                    .to_string()
                    .replace(' ', "%20")
                    .replace('é', "%C3%A9")
            )
        };
        assert_eq!(
            get(BOB.1, &door, &encoded(&path)),
            ("200".into(), "shown".into())
        );
        assert_eq!(get(CAROL.1, &door, &encoded(&path)).0, "404");
        assert_eq!(get(BOB.1, &door, &encoded(&secret)).0, "404");
        let around = path.parent().unwrap().join("x/../result é.txt");
        assert_eq!(get(BOB.1, &door, &encoded(&around)).0, "404");
        // A new version of it is still it; a link to something else is not.
        fs::write(node.home().join("new"), "newer").unwrap();
        fs::rename(node.home().join("new"), &path).unwrap();
        assert_eq!(
            get(BOB.1, &door, &encoded(&path)),
            ("200".into(), "newer".into())
        );
        fs::remove_file(&path).unwrap();
        symlink(&secret, &path).unwrap();
        assert_eq!(get(BOB.1, &door, &encoded(&path)).0, "404");
        assert_eq!(revoke(&client, shared.id).await, StatusCode::NO_CONTENT);
    });
}
