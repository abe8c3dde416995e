//! Which layer wins, and what is printed of it.

use windlass_actors::operation::Value;

use std::ffi::OsString;

use super::*;

#[test]
fn the_file_is_below_the_environment_which_is_below_the_flags() {
    let text = "[drain]\nquiet = \"1s\"\ntimeout = \"1s\"\ncancel_grace = \"1s\"";
    let environment = [("WINDLASS__DRAIN__TIMEOUT", "2s"), ("WINDLASS__DRAIN__CANCEL_GRACE", "2s")];
    let flags = ["drain.cancel_grace=3s"];
    let config = Said { file: text, environment: &environment, flags: &flags }.load();
    let drain = &config.settings.drain;
    let seconds = [drain.quiet, drain.timeout, drain.cancel_grace].map(|duration| duration.as_secs());
    assert_eq!(seconds, [1, 2, 3]);
    let config = Said { flags: &["io.threads=2", "io.threads=3"], ..Said::default() }.load();
    assert_eq!(config.io.threads.get(), 3, "the last flag wins");
}

#[test]
fn a_list_is_replaced_by_a_higher_layer_and_not_merged() {
    let text = "[listen]\ntcp = [\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:3\"]";
    let environment = [("WINDLASS__LISTEN__TCP", "[::1]:4, 127.0.0.1:5")];
    let config = Said { file: text, environment: &environment, flags: &[] }.load();
    assert_eq!(config.listen.tcp, ["[::1]:4".parse().unwrap(), "127.0.0.1:5".parse().unwrap()]);
    let config = Said { file: text, flags: &["listen.tcp="], ..Said::default() }.load();
    assert_eq!(config.listen.tcp, []);
}

#[test]
fn every_key_can_be_set_from_the_environment_and_by_a_flag() {
    for key in Schema::new(&known().declared).keys {
        let Some(default) = key.default.clone() else { continue };
        let text = match default.clone() {
            text if text.starts_with('[') => text.trim_matches(['[', ']']).replace('"', ""),
            text => text.trim_matches('"').to_owned(),
        };
        let (variable, flag) = (key.variable(), format!("{}={text}", key.name));
        let by_variable = Said { environment: &[(&variable, &text)], ..Said::default() }.load();
        let by_flag = Said { flags: &[&flag], ..Said::default() }.load();
        for (config, origin) in [(by_variable, Origin::Variable(variable.clone())), (by_flag, Origin::Flag)] {
            let found = config.effective.iter().find(|effective| effective.name == key.name).unwrap();
            assert_eq!((found.found.as_deref(), &found.origin), (Some(default.as_str()), &origin));
        }
    }
}

#[test]
fn underscores_in_a_variable_stand_for_hyphens_in_names() {
    let environment = [("WINDLASS__OPERATIONS__PASSWORD_HASH__MEMORY_MAX", "32MiB")];
    let config = Said { environment: &environment, ..Said::default() }.load();
    let entry = config.settings.catalogue.find("password-hash").unwrap();
    assert_eq!(entry.0.operation.declaration().limit("memory_max"), Value::Size(32 << 20));
}

#[test]
fn variables_of_others_are_none_of_our_business() {
    let environment =
        [("WINDLASS_PORT", "tcp://10.0.0.1:7410"), ("windlass__io__threads", "x"), ("PATH", "/bin")];
    Said { environment: &environment, ..Said::default() }.load();
}

#[test]
fn a_variable_that_is_not_text_is_a_problem() {
    use std::os::unix::ffi::OsStringExt;
    let text = OsString::from_vec(b"inf\xf6".to_vec());
    let sources = Sources::new(None, [("WINDLASS__LOG__LEVEL".into(), text)], vec![]);
    let problems = Config::load(&sources, &known(), &MACHINE).map(|_| ()).unwrap_err().problems;
    assert_eq!(keys(&problems), ["WINDLASS__LOG__LEVEL"]);
}

#[test]
fn what_is_printed_reads_back_to_the_same() {
    let text = "[cpu]\nthreads = 3\n[operations]\nenabled = [\"hash\"]\n[operations.compress]\nlevel = -1\n";
    let flags = ["log.level=info,windlass_actors=debug", "listen.unix=/run/a \"b\" #c.sock"];
    let environment = [("WINDLASS__LISTEN__ADMIN", "off")];
    let config = Said { file: text, environment: &environment, flags: &flags }.load();
    let printed = config.print();
    let again = file(&printed).load();
    let values = |config: &Config| {
        config.effective.iter().map(|key| (key.name.clone(), key.setting.clone())).collect::<Vec<_>>()
    };
    assert_eq!(values(&config), values(&again), "{printed}");
    assert_eq!(
        (&config.listen, &config.io, &config.cpu, &config.log),
        (&again.listen, &again.io, &again.cpu, &again.log)
    );
    assert!(printed.contains("threads = 3 # file "), "{printed}");
    assert!(printed.contains("threads = \"auto\" # 2 here; built-in default"), "{printed}");
    assert!(printed.contains("admin = \"off\" # environment variable WINDLASS__LISTEN__ADMIN"), "{printed}");
}
