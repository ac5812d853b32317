//! Who can reach what: other origins, wrong hosts, missing tokens, and other users of the node.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result};
use hpcclient_tests::{Address, CLUSTER, Request, Site};
use serde_json::{Value, json};

/// Ports that answer, and what opens them.
struct Doors {
    bridge: u16,
    token: String,
    page: u16,
    page_token: String,
}

fn doors(site: &Site) -> Result<Doors> {
    site.connect()?;
    let (bridge, token, _) = site.bridge()?;
    let (page, code) = new_page(site)?;
    let page_token = trade(page, &code)?.json()?;
    let page_token = page_token.get("token").and_then(Value::as_str);
    Ok(Doors {
        bridge,
        token,
        page,
        page_token: page_token.context("no page token")?.to_owned(),
    })
}

fn new_page(site: &Site) -> Result<(u16, String)> {
    let path = format!("/v1/clusters/{CLUSTER}/page");
    let answer = site.ask("POST", &path, None)?.json()?;
    let url = answer
        .get("url")
        .and_then(Value::as_str)
        .context("no url")?;
    let (base, code) = url.split_once("#code=").context("no code in the URL")?;
    let port = base
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .context("no port")?;
    Ok((port.parse()?, code.to_owned()))
}

fn trade(port: u16, code: &str) -> Result<hpcclient_tests::Response> {
    Request::new("POST", "/page-token")
        .header("origin", &format!("http://127.0.0.1:{port}"))
        .json(&json!({ "code": code }))
        .send(&Address::Port(port))
}

#[test]
fn a_wrong_host_reaches_nothing() -> Result<()> {
    let site = Site::new()?;
    let d = doors(&site)?;
    for (port, token, path) in [
        (d.bridge, &d.token, "/v1/bridge"),
        (d.page, &d.page_token, "/v1/status"),
        (d.page, &d.page_token, "/"),
    ] {
        let get = |host: &str| -> Result<u16> {
            let request = Request::new("GET", path)
                .header("host", host)
                .header("authorization", &format!("Bearer {token}"));
            Ok(request.send(&Address::Port(port))?.status)
        };
        for good in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
            assert_eq!(get(&good)?, 200, "{good}{path}");
        }
        for bad in [
            "evil.example".to_owned(),
            format!("evil.example:{port}"),
            format!("127.0.0.1.evil.example:{port}"),
            format!("localhost.evil:{port}"),
            format!("0.0.0.0:{port}"),
            format!("[::1]:{port}"),
            format!("127.0.0.1.:{port}"),
            format!("127.0.0.2:{port}"),
            "127.0.0.1".to_owned(),
            "localhost".to_owned(),
            format!("127.0.0.1:{}", port ^ 1),
            String::new(),
        ] {
            let status = get(&bad)?;
            assert!(
                (400..500).contains(&status),
                "Host {bad:?} at {path}: {status}"
            );
        }
    }
    Ok(())
}

#[test]
fn another_origin_reaches_nothing() -> Result<()> {
    let site = Site::new()?;
    let d = doors(&site)?;
    let to_agent = format!("/c/{CLUSTER}/v1");
    for (port, token, base) in [
        (d.bridge, &d.token, to_agent.as_str()),
        (d.page, &d.page_token, "/v1"),
    ] {
        let own = format!("http://127.0.0.1:{port}");
        let bad = [
            None,
            Some("null".to_owned()),
            Some("https://evil.example".to_owned()),
            Some(format!("https://127.0.0.1:{port}")),
            Some(format!("http://127.0.0.1:{}", port ^ 1)),
            Some("http://127.0.0.1".to_owned()),
            Some(format!("http://127.0.0.1:{port}.evil.example")),
            Some(format!("{own}/")),
            Some(format!("http://localhost:{}", port ^ 1)),
        ];
        let with = |request: Request, origin: Option<&str>| match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        };
        let stop = |origin: Option<&str>| -> Result<u16> {
            let request = Request::new("DELETE", &format!("{base}/sessions/none"))
                .header("authorization", &format!("Bearer {token}"));
            Ok(with(request, origin).send(&Address::Port(port))?.status)
        };
        let live = |origin: Option<&str>| -> Result<u16> {
            let protocols = format!("hpcclient.v1, bearer.{token}");
            let request = Request::new("GET", &format!("{base}/live")).websocket(&protocols);
            Ok(with(request, origin).send(&Address::Port(port))?.status)
        };
        assert!(
            matches!(stop(Some(&own))?, 204 | 404),
            "our own origin is refused"
        );
        assert_eq!(live(Some(&own))?, 101);
        for origin in bad.iter().map(Option::as_deref) {
            assert_eq!(stop(origin)?, 403, "{origin:?} at {base}");
            assert_eq!(live(origin)?, 403, "WebSocket of {origin:?} at {base}");
        }
        let options = Request::new("OPTIONS", &format!("{base}/status"))
            .header("origin", "https://evil.example")
            .header("access-control-request-method", "GET")
            .send(&Address::Port(port))?;
        let allowed = options.header("access-control-allow-origin");
        assert_eq!(allowed, None, "a page elsewhere could read answers");
    }
    Ok(())
}

#[test]
fn without_the_right_token_nothing_answers() -> Result<()> {
    let site = Site::new()?;
    let d = doors(&site)?;
    let agent = format!("/c/{CLUSTER}/v1/status");
    let get = |port: u16, path: &str, token: Option<&str>| -> Result<u16> {
        let mut request = Request::new("GET", path);
        if let Some(token) = token {
            request = request.header("authorization", &format!("Bearer {token}"));
        }
        Ok(request.send(&Address::Port(port))?.status)
    };
    let almost = d
        .token
        .get(1..)
        .map(|rest| format!("x{rest}"))
        .context("token")?;
    for wrong in [
        None,
        Some(""),
        Some("x"),
        Some(almost.as_str()),
        Some(d.page_token.as_str()),
    ] {
        for path in ["/v1/bridge", agent.as_str(), "/v1/prompts/1"] {
            assert_eq!(get(d.bridge, path, wrong)?, 401, "{path} with {wrong:?}");
        }
    }
    for wrong in [None, Some(""), Some("x"), Some(d.token.as_str())] {
        assert_eq!(
            get(d.page, "/v1/status", wrong)?,
            401,
            "page with {wrong:?}"
        );
    }
    assert_eq!(get(d.page, "/v1/status", Some(&d.page_token))?, 200);
    for path in ["/v1/bridge", agent.as_str(), "/c/demo/v1/status"] {
        let status = get(d.page, path, Some(&d.page_token))?;
        assert!(
            status >= 400,
            "a page reached {path} of the bridge: {status}"
        );
    }
    Ok(())
}

#[test]
fn a_pages_code_is_good_once() -> Result<()> {
    let site = Site::new()?;
    site.connect()?;
    let (port, code) = new_page(&site)?;
    assert_eq!(trade(port, &code)?.status, 200);
    assert_eq!(trade(port, &code)?.status, 401);
    assert_eq!(trade(port, "guess")?.status, 401);
    Ok(())
}

#[test]
fn the_page_says_who_may_frame_it_and_runs_no_strange_script() -> Result<()> {
    let site = Site::new()?;
    let d = doors(&site)?;
    let page = Request::new("GET", "/").send(&Address::Port(d.page))?;
    assert_eq!(page.status, 200);
    let policy = page
        .header("content-security-policy")
        .context("no policy")?;
    for part in ["default-src 'none'", "frame-ancestors", "base-uri 'none'"] {
        assert!(policy.contains(part), "{part} is not in {policy}");
    }
    assert!(
        !policy.contains("unsafe-eval") && !policy.contains("script-src *"),
        "{policy}"
    );
    let body = String::from_utf8_lossy(&page.body).into_owned();
    assert!(!body.contains(&d.page_token), "the page has a secret in it");
    Ok(())
}

#[test]
fn a_preview_cannot_run_as_the_page() -> Result<()> {
    let site = Site::new()?;
    let d = doors(&site)?;
    let file = site
        .env()
        .write("node-home/evil.html", "<script>alert(1)</script>")?;
    let answer = Request::new("GET", &format!("/v1/file?path={}", file.display()))
        .header("authorization", &format!("Bearer {}", d.page_token))
        .send(&Address::Port(d.page))?;
    assert_eq!(answer.status, 200);
    let policy = answer.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains("sandbox"), "{policy:?}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    Ok(())
}

#[test]
fn the_users_own_files_are_private() -> Result<()> {
    let site = Site::new()?;
    site.bash("echo secret")?.success()?;
    let mode = |path: std::path::PathBuf| -> Result<u32> {
        let about = fs::metadata(&path).with_context(|| path.display().to_string())?;
        Ok(about.permissions().mode() & 0o777)
    };
    assert_eq!(mode(site.env().path("home/state"))?, 0o700);
    assert_eq!(mode(site.env().path("home/state/bridge.json"))?, 0o600);
    assert_eq!(mode(site.env().path("node/state/runs"))?, 0o700);
    let socket = site.agent_socket()?;
    assert_eq!(mode(socket.clone())?, 0o600);
    assert_eq!(
        mode(socket.parent().context("no folder")?.to_path_buf())?,
        0o700
    );
    Ok(())
}

mod as_root {
    use std::{os::unix::process::CommandExt, path::Path};

    use super::*;

    const NOBODY: u32 = 65534;

    /// What uid 65534 gets from a Unix socket: the answer, or why there is none.
    fn ask_as_nobody(site: &Site, socket: &Path) -> Result<String> {
        let script = "use IO::Socket::UNIX; $SIG{PIPE} = 'IGNORE'; my $s = IO::Socket::UNIX->new($ARGV[0]) or do { print \"refused: $!\"; exit };\
                      print $s \"GET /v1/status HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n\"; $s->flush();\
                      local $/; my $a = <$s>; print defined $a && length $a ? \"answered: $a\" : 'refused: closed';";
        let mut command = site.env().command("perl");
        command.args(["-e", script]).arg(socket).current_dir("/");
        command.uid(NOBODY).gid(NOBODY);
        Ok(site.env().run(&mut command)?.success()?.text())
    }

    #[test]
    fn another_user_of_the_machine_reaches_nothing() -> Result<()> {
        let site = Site::new()?;
        // The test's own folder must not be what protects.
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        open(site.env().root(), 0o755)?;
        open(&site.env().path("home"), 0o755)?;
        site.bash("echo secret")?.success()?;
        let d = doors(&site)?;
        let socket = site.agent_socket()?;

        for path in [
            site.env().path("home/state"),
            site.env().path("home/state/bridge.json"),
            site.env().path("node/state/runs"),
            socket.parent().context("no folder")?.to_path_buf(),
        ] {
            let program = if path.is_dir() { "ls" } else { "cat" };
            let mut command = site.env().command(program);
            command.arg(&path).current_dir("/").uid(NOBODY).gid(NOBODY);
            let output = site.env().run(&mut command)?;
            let text = output.error_text();
            assert!(
                output.code != 0 && text.contains("Permission denied"),
                "{}: {text}",
                path.display()
            );
        }
        let answer = ask_as_nobody(&site, &socket)?;
        assert!(answer.starts_with("refused"), "{answer}");
        let answer = Request::new("GET", "/v1/bridge").send(&Address::Port(d.bridge))?;
        assert_eq!(answer.status, 401);

        // Even with every permission open the agent looks at who asks.
        open(socket.parent().context("no folder")?, 0o777)?;
        open(&socket, 0o777)?;
        let answer = ask_as_nobody(&site, &socket)?;
        assert!(
            answer.starts_with("refused"),
            "the agent answered a stranger: {answer}"
        );
        assert_eq!(
            site.agent_status()?.hello.socket,
            socket.display().to_string()
        );
        Ok(())
    }
}
