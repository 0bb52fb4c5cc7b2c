//! Names of cgroups there and back, with made-up folders.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::containers::tests::{UID, host as runtimes, id as digits};
use super::known::Group;
use super::*;

fn inode(path: impl AsRef<Path>) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn cgroups_of_this_host() {
    let cgroups = Cgroups::default();
    let id = |text: &str| cgroups.parse(text).map(Option::unwrap);
    assert_eq!(id("77").unwrap(), 77);
    assert_eq!(cgroups.parse("0x4d").unwrap(), None);
    // As it is shown, and where it is.
    if let Some(root) = host::cgroup2_mounts().next() {
        let own = inode(&root);
        assert_eq!(id("/").unwrap(), own.into());
        assert_eq!(id(root.to_str().unwrap()).unwrap(), own.into());
        assert_eq!(cgroups.name(own.into()).as_deref(), Some("/"));
        assert_eq!(cgroups.described(own.into(), false).as_deref(), Some("/"));
        assert_eq!(cgroup_folder(own), Some(root.clone()));
        for path in ["/proc", "/tmp", "/proc/self/status"] {
            let error = id(path).unwrap_err().to_string();
            assert!(error.contains("is not a cgroup of version 2"), "{error}");
            let place = format!("a cgroup's directory, as below {}", root.display());
            assert!(error.ends_with(&place), "{error}");
        }
    }
    for text in ["/no/such/cgroup", "no-such.service", "", "-1"] {
        assert!(id(text).is_err(), "{text}");
    }
}

/// Folders in the place of a host's cgroups and runtimes.
struct Host {
    mount: tempfile::TempDir,
    runtimes: tempfile::TempDir,
    known: Known,
}

impl Host {
    fn of(groups: &[String]) -> Self {
        let (mount, runtimes) = (tempfile::tempdir().unwrap(), runtimes());
        for group in groups {
            fs::create_dir_all(mount.path().join(&group[1..])).unwrap();
        }
        fs::write(mount.path().join("cgroup.procs"), "").unwrap();
        let known = Known::default();
        let mut host = Self {
            mount,
            runtimes,
            known,
        };
        host.look();
        host
    }

    fn look(&mut self) {
        let mounts = [self.mount.path().to_path_buf()];
        self.known.look_at(mounts, self.runtimes.path());
    }

    fn path(&self, group: &str) -> PathBuf {
        self.mount.path().join(&group[1..])
    }

    fn group(&mut self, group: &str) -> &Group {
        let id = inode(self.path(group));
        self.known.group(id.into()).unwrap()
    }

    fn id(&self, text: &str) -> Result<u64, String> {
        let mounts = [self.mount.path().to_path_buf()];
        let id = self.known.id(text, &mounts);
        id.map_err(|error| error.to_string())
    }
}

#[test]
fn what_is_shown_is_accepted_and_so_is_what_people_call_it() {
    let [docker, nerdctl] = ['a', 'b'].map(digits);
    let docker = format!("/system.slice/docker-{docker}.scope");
    let nerdctl = format!("/default/{nerdctl}");
    let pod = format!("/kubepods/burstable/pod{UID}");
    let nginx = format!("{pod}/{}", digits('e'));
    let pause = format!("{pod}/{}", digits('f'));
    let below = format!("{docker}/init.scope");
    let cases: [(&str, &str, &[&str]); 8] = [
        ("/", "/", &["/sys/fs/cgroup", "/sys/fs/cgroup/"]),
        (
            "/walk/a b",
            "/walk/a b",
            &["walk/a b", "/sys/fs/cgroup/walk/a b"],
        ),
        (
            "/system.slice/ssh.service",
            "ssh.service",
            &["system.slice/ssh.service"],
        ),
        (&below, "docker aaaaaaaaaaaa (postgres)/init.scope", &[]),
        (
            &docker,
            "docker aaaaaaaaaaaa (postgres)",
            &["postgres", "aaaa", "aaaaaaaaaaaa"],
        ),
        (
            &nerdctl,
            "container bbbbbbbbbbbb (cache)",
            &["cache", "bbbbb"],
        ),
        (
            &nginx,
            "container eeeeeeeeeeee (shop/web-7d9f/nginx)",
            &["nginx", "web-7d9f/nginx"],
        ),
        (
            &pod,
            "pod 7c1e52ab (shop/web-7d9f)",
            &["web-7d9f", "shop/web-7d9f", "7c1e52ab", UID],
        ),
    ];
    let groups = cases.map(|(path, ..)| path.to_owned());
    let mut host = Host::of(&[&groups[..], std::slice::from_ref(&pause)].concat());
    let shown = "container ffffffffffff (shop/web-7d9f)";
    assert_eq!(host.group(&pause).shown, shown);
    for (path, shown, called) in cases {
        assert_eq!(host.group(path).shown, shown);
        assert_eq!(host.group(path).path, path);
        let folder = host.path(path);
        let id = inode(&folder);
        let texts = [
            path,
            shown,
            &path[1..],
            folder.to_str().unwrap(),
            &id.to_string(),
        ];
        for text in texts.iter().chain(called).filter(|it| !it.is_empty()) {
            assert_eq!(host.id(text), Ok(id), "{text}");
        }
    }
    // One that has gone, perhaps.
    assert_eq!(host.id("18446744073709551615"), Ok(u64::MAX));
}

#[test]
fn what_is_unknown_or_ambiguous_is_told_with_what_there_is() {
    let [one, two] = ["a".repeat(64), "a".repeat(60) + "bbbb"].map(|id| format!("/docker/{id}"));
    let user = |uid| format!("/user.slice/user@{uid}.service/app.slice/dbus.service");
    let ssh = "/system.slice/ssh.service".to_owned();
    let host = Host::of(&[one.clone(), two.clone(), user(1), user(2), ssh]);
    let near_ssh = "no cgroup named `sshd.service`; did you mean `ssh.service`?; write a unit";
    let cases: [(&str, &[&str]); 6] = [
        ("aaaa", &["`aaaa` has 2 meanings", &one, &two]),
        (
            "dbus.service",
            &["`dbus.service` has 2 meanings", &user(1), &user(2)],
        ),
        ("sshd.service", &[near_ssh]),
        ("postgre", &["did you mean `postgres`"]),
        ("/system.slice/ssh", &["`/system.slice/ssh.service`"]),
        (
            "/../../proc",
            &["`/../../proc` is not a cgroup of version 2"],
        ),
    ];
    for (text, words) in cases {
        let error = host.id(text).unwrap_err();
        let missing = words.iter().find(|word| !error.contains(**word));
        assert_eq!(missing, None, "{text}: {error}");
    }
    let nowhere = Known::default().id("web", &[]).unwrap_err().to_string();
    assert_eq!(
        nowhere,
        "cgroup2 is not mounted: mount -t cgroup2 cgroup2 /mnt"
    );
}

#[test]
fn names_outlive_what_they_name_and_new_ones_are_looked_up_again() {
    let late = format!("/docker/{}", digits('9'));
    let mut host = Host::of(&["/a/b c".to_owned(), late.clone()]);
    assert_eq!(host.known.groups.len(), 5);
    let gone = inode(host.path("/a/b c"));
    fs::remove_dir(host.path("/a/b c")).unwrap();
    assert_eq!(host.group(&late).shown, "docker 999999999999");
    let docker = host.runtimes.path().join("var/lib/docker/containers");
    let folder = docker.join(digits('9'));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.v2.json"), r#"{"Name":"/late"}"#).unwrap();
    host.look();
    assert_eq!(host.group(&late).shown, "docker 999999999999 (late)");
    assert_eq!(host.known.group(gone.into()).unwrap().path, "/a/b c");
    // What has gone is not what is meant.
    assert!(host.id("/a/b c").is_err());
    fs::remove_dir_all(&folder).unwrap();
    (0..Known::NEW).for_each(|_| host.look());
    assert_eq!(host.group(&late).name.as_deref(), Some("late"));
}
