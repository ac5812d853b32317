//! A cluster with three login nodes behind one name: one home, three sshds, three host names, a balancer in front.
//!
//! Each node is a server in UTS and mount namespaces of its own, on an address of its own, with `/etc/hosts` as a site
//! has it. What it shares with the others is what login nodes share: the account and its home.
//! Invariants: the host keys differ, and the user knows them by the cluster's name only. Needs root.
//! Not here: process namespaces; a test that kills does it by process id.

use std::{fs, net::SocketAddr};

use anyhow::{Context, Result};

use crate::{Account, CLUSTER, Env, FaultProxy, Output, Setup, Site, Sshd};

/// The nodes' names, in the order of [`FaultProxy::lead_to`].
pub const NODES: [&str; 3] = ["login01", "login02", "login03"];

/// The cluster.
#[derive(Debug)]
pub struct Nodes {
    // Fields are dropped in this order: the account's processes and the folder last.
    balancer: FaultProxy,
    others: Vec<Sshd>,
    site: Site,
}

impl Nodes {
    /// Starts the nodes and leads the cluster's logins to the first.
    ///
    /// # Errors
    /// Not root, or a program is missing.
    pub fn new() -> Result<Self> {
        let env = Env::new()?;
        let account = Account::new(&env, "bash")?;
        let lines = NODES.iter().enumerate();
        let lines = lines.map(|(number, name)| format!("{} {name}\n", address(number)));
        let hosts = env.path("hosts");
        fs::write(
            &hosts,
            lines.fold("127.0.0.1 localhost\n".to_owned(), |all, line| all + &line),
        )?;
        let node = |number: usize| {
            let name = NODES.get(number).copied().unwrap_or_default();
            let prepare = format!(
                "hostname {name}\nmount --bind '{}' /etc/hosts",
                hosts.display()
            );
            let setup = Setup::new(&[]).named(name).account(&account);
            setup.address(&address(number)).prepared_by(&prepare)
        };
        // As at a site: the nodes listen on the port of the name that stands for them.
        let balancer = FaultProxy::start(&[])?;
        let port = balancer.port();
        let rest: Vec<Setup> = (1..NODES.len()).map(node).collect();
        let first = node(0).port(port);
        let site = Site::of(env, Some(account), &first)?;
        let key = site.sshd().file("user_key.pub");
        let others = rest
            .into_iter()
            .map(|setup| {
                setup
                    .port(port)
                    .authorized_keys(key.clone())
                    .start(site.env())
            })
            .collect::<Result<Vec<_>>>()?;
        let backends =
            (0..NODES.len()).map(|number| Ok(format!("{}:{port}", address(number)).parse()?));
        let backends = backends.collect::<Result<Vec<SocketAddr>>>()?;
        balancer.stand_before(&backends);
        let name = format!("[127.0.0.1]:{}", balancer.port());
        let servers = std::iter::once(site.sshd()).chain(&others);
        let known = servers
            .map(|sshd| sshd.known_as(&name))
            .collect::<Result<String>>()?;
        fs::write(site.sshd().file("known_hosts"), known)?;
        site.configure(balancer.port(), "")?;
        Ok(Self {
            balancer,
            others,
            site,
        })
    }

    /// Returns the site; its server is the first node's.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Returns what stands in front of the nodes.
    #[must_use]
    pub fn balancer(&self) -> &FaultProxy {
        &self.balancer
    }

    /// Ends a node's server with all its connections, as when it is taken out of service. Not the first node's.
    ///
    /// # Errors
    /// It is still there.
    pub fn take_down(&mut self, number: usize) -> Result<()> {
        let node = number.checked_sub(1).and_then(|at| self.others.get_mut(at));
        let node = node.context("not a node that can be taken down")?;
        // One that nobody is connected to is down all the same.
        drop(node.kill_connections());
        node.stop()
    }

    /// Runs `hpcclient` for another machine of the same user: its own bridge, which remembers nothing.
    ///
    /// # Errors
    /// It does not end.
    pub fn elsewhere(&self, args: &[&str]) -> Result<Output> {
        let env = self.site.env();
        let mut command = env.hpcclient(args)?;
        command.env("HPCCLIENT_STATE_DIR", env.path("home/elsewhere"));
        env.run(&mut command)
    }

    /// Returns the node that the bridge's agent is on, and the one that the login landed on if another.
    ///
    /// # Errors
    /// The bridge does not know the cluster.
    pub fn place(&self) -> Result<(Option<String>, Option<String>)> {
        let cluster = self.site.cluster().with_context(|| CLUSTER.to_owned())?;
        Ok((cluster.node, cluster.via))
    }
}

fn address(number: usize) -> String {
    format!("127.0.0.{}", 11 + number)
}
