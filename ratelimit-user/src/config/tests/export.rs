use super::{config, refused};
use crate::config::{Duration, Export};

#[test]
fn nothing_is_exported_unless_it_is_configured() {
    assert_eq!(config("").export, Export::default());
    assert_eq!(Export::default().path, None);
}

#[test]
fn every_key_of_export_is_read() {
    let export = config(
        "[export]\npath = \"/var/lib/rbldns/own\"\ncontact = \"postmaster@example.org\"\ninclude_third_party = true\n\
         ttl_max = \"1m\"\n",
    )
    .export;
    assert_eq!(export.path.as_deref(), Some("/var/lib/rbldns/own".as_ref()));
    assert_eq!(export.contact, "postmaster@example.org");
    assert!(export.include_third_party);
    assert_eq!(export.ttl_max, Duration::seconds(60));
}

#[test]
fn wrong_values_of_export() {
    for (text, problem) in [
        ("path = \"/own\"", "export: bans are exported, and nobody to write to is named\n    add contact = "),
        ("path = \"own\"\ncontact = \"x@y\"", "export.path: "),
        ("contact = \"\"", "export.contact: \"\" is not a contact\n    write an address"),
        ("contact = \"two words\"", "export.contact: \"two words\" is not a contact"),
        ("contact = \"$1@example.org\"", "export.contact: \"$1@example.org\" is not a contact"),
        ("ttl_max = \"5s\"", "export.ttl_max: 5s is out of range\n    write 10s to 1h"),
        ("ttl_max = \"2h\"", "export.ttl_max: 2h is out of range"),
        ("include_third_party = 1", "export.include_third_party: "),
        ("zone = \"x\"", "export.zone: "),
    ] {
        let refused = refused(&format!("[export]\n{text}\n"));
        assert!(refused.contains(problem), "{text}: {refused}");
    }
}
