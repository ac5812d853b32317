//! `docs/openapi.json`: the agent's API as a document, made in tests only, so that nothing shipped carries it.
//!
//! Every file of routes says in its `Described` what it serves. Called by `cargo xtask gen` and by whoever runs the tests.
//! Invariants: the document in `docs/` is this one.

use hpcclient_protocol::{
    VERSION,
    file::SortKey,
    live::{AgentMessage, ViewerMessage},
};
use utoipa::OpenApi;

use super::*;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hpcagent",
        description = "The agent on the login node. How it is used is in `docs/protocol.md`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ViewerMessage, AgentMessage, SortKey))
)]
struct Description;

fn description() -> utoipa::openapi::OpenApi {
    let parts = [
        status::Described::openapi(),
        node::Described::openapi(),
        runs::Described::openapi(),
        streams::Described::openapi(),
        search::Described::openapi(),
        export::Described::openapi(),
        screen::Described::openapi(),
        sessions::Described::openapi(),
        events::Described::openapi(),
        viewers::Described::openapi(),
        files::Described::openapi(),
        shares::Described::openapi(),
        shared::Described::openapi(),
        audit::Described::openapi(),
        stop::Described::openapi(),
    ];
    let mut description = Description::openapi();
    for part in parts {
        description.merge(part);
    }
    VERSION.clone_into(&mut description.info.version);
    description
}

#[test]
fn every_operation_has_its_name_and_every_schema_is_there() {
    let text = description().to_json().unwrap();
    let named = |mark: &str| {
        let found: Vec<_> = text
            .split(mark)
            .skip(1)
            .filter_map(|rest| rest.split('"').next().map(ToOwned::to_owned))
            .collect();
        found
    };
    let mut operations = named("\"operationId\":\"");
    let count = operations.len();
    operations.sort();
    operations.dedup();
    assert_eq!(operations.len(), count, "a name is used twice");
    let schemas = description().components.unwrap().schemas;
    for schema in named("#/components/schemas/") {
        assert!(schemas.contains_key(&schema), "{schema} is not described");
    }
}

#[test]
fn the_description_in_the_documents_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let now = description().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_GENERATED").is_some_and(|value| value == "1") {
        std::fs::write(path, &now).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == now,
        "docs/openapi.json is old: run the tests with UPDATE_GENERATED=1"
    );
}
