//! An agent of a release that does not exist yet: whatever it is asked, it says that it speaks protocol 99.

use std::io::Write;

fn main() -> std::io::Result<()> {
    let hello =
        r#"{"version":"9.9.9","protocol":99,"build":"00","socket":"/nowhere","host":"x","pid":1}"#;
    writeln!(std::io::stdout(), "hpcclient-hello {hello}")
}
