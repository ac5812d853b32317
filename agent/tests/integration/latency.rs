//! How long a call takes on the node itself; the figure is printed, the bound is generous.

use std::time::{Duration, Instant};

use crate::node::{Node, line, with_tasks};

#[test]
fn a_line_in_a_session_is_quick() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let spec = line("nb", "true");
        client.run(&spec).await;
        let mut times = Vec::new();
        for _ in 0..500 {
            let started = Instant::now();
            assert_eq!(client.run(&spec).await.code(), Some(0));
            times.push(started.elapsed());
        }
        times.sort();
        println!(
            "true in a session: median {:?}, p95 {:?}",
            times[250], times[475]
        );
        assert!(
            times[250] < Duration::from_millis(100),
            "median {:?}",
            times[250]
        );
    });
}
