//! The names of containers and pods, from the files of their runtimes.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::workload::Workload;

/// The names that the files below a root have now. Lists and settings are read once.
pub(super) struct Containers<'r> {
    root: &'r Path,
    pods: OnceCell<HashMap<String, String>>,
    of_pods: OnceCell<HashMap<String, String>>,
    of_podman: OnceCell<HashMap<String, String>>,
    /// Where docker has a folder for each container.
    docker: OnceCell<PathBuf>,
}

impl<'r> Containers<'r> {
    /// The root is `/`, except in tests.
    pub(super) fn new(root: &'r Path) -> Self {
        Self {
            root,
            pods: OnceCell::new(),
            of_pods: OnceCell::new(),
            of_podman: OnceCell::new(),
            docker: OnceCell::new(),
        }
    }

    /// The name of a container or pod: `NAMESPACE/POD/CONTAINER` in Kubernetes,
    /// and that of its pod for the container that holds a pod together.
    pub(super) fn name(&self, workload: &Workload<'_>) -> Option<String> {
        let id = workload.id()?;
        let of_pods = self.of_pods.get_or_init(|| self.containers_of_pods());
        let pods = || self.pods.get_or_init(|| self.pods());
        let of_podman = || self.of_podman.get_or_init(|| self.podman());
        let listed = of_pods.get(id).cloned();
        listed
            .or_else(|| pods().get(workload.pod.as_ref()?).cloned())
            .or_else(|| self.docker(id))
            .or_else(|| self.nerdctl(id))
            .or_else(|| of_podman().get(id).cloned())
    }

    fn entries(&self, folder: &str) -> impl Iterator<Item = (PathBuf, String)> {
        let entries = fs::read_dir(self.root.join(folder));
        let entries = entries.into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?)))
    }

    /// The kubelet links the log of each container, of whatever runtime, as
    /// `POD_NAMESPACE_CONTAINER-ID.log`.
    fn containers_of_pods(&self) -> HashMap<String, String> {
        let links = self.entries("var/log/containers");
        let names = links.filter_map(|(_, link)| {
            let (name, id) = link.strip_suffix(".log")?.rsplit_once('-')?;
            let mut parts = name.splitn(3, '_');
            let (pod, namespace) = (parts.next()?, parts.next()?);
            let container = parts.next()?;
            Some((id.to_owned(), format!("{namespace}/{pod}/{container}")))
        });
        names.collect()
    }

    /// Of each pod it has a folder `NAMESPACE_POD_UID`.
    fn pods(&self) -> HashMap<String, String> {
        let folders = self.entries("var/log/pods");
        let names = folders.filter_map(|(_, folder)| {
            let mut parts = folder.splitn(3, '_');
            let (namespace, pod) = (parts.next()?, parts.next()?);
            Some((parts.next()?.to_owned(), format!("{namespace}/{pod}")))
        });
        names.collect()
    }

    fn docker_folder(&self) -> PathBuf {
        const USUAL: &str = "/var/lib/docker";
        let daemon = json(&self.root.join("etc/docker/daemon.json"));
        let folder = daemon.as_ref().and_then(|it| it["data-root"].as_str());
        let folder = folder.unwrap_or(USUAL).trim_start_matches('/');
        self.root.join(folder).join("containers")
    }

    fn docker(&self, id: &str) -> Option<String> {
        let folder = self.docker.get_or_init(|| self.docker_folder());
        let config = json(&folder.join(id).join("config.v2.json"))?;
        let name = config["Name"].as_str()?;
        Some(name.trim_start_matches('/').to_owned())
    }

    /// What nerdctl notes in the configuration that containerd runs.
    fn nerdctl(&self, id: &str) -> Option<String> {
        let namespaces = self.entries("run/containerd/io.containerd.runtime.v2.task");
        let mut configs =
            namespaces.filter_map(|(path, _)| json(&path.join(id).join("config.json")));
        configs.find_map(|config| {
            let name = config["annotations"]["nerdctl/name"].as_str()?;
            Some(name.to_owned())
        })
    }

    /// The storage that podman and CRI-O share has a list for each of its drivers;
    /// `podman run --rm` is in the second.
    fn podman(&self) -> HashMap<String, String> {
        let storages = ["var/lib/containers/storage", "run/containers/storage"];
        let drivers = storages.into_iter().flat_map(|it| self.entries(it));
        let drivers = drivers.filter(|(_, name)| name.ends_with("-containers"));
        let lists = drivers.flat_map(|(path, _)| {
            ["containers.json", "volatile-containers.json"].map(|list| json(&path.join(list)))
        });
        let names = lists.flatten().flat_map(|list| {
            let containers = list.as_array().cloned().unwrap_or_default().into_iter();
            containers.filter_map(|container| {
                let (id, name) = (container["id"].as_str()?, container["names"][0].as_str()?);
                Some((id.to_owned(), name.to_owned()))
            })
        });
        names.collect()
    }
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A container's id: this digit 64 times.
    pub(in crate::names::cgroup) fn id(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    pub(in crate::names::cgroup) const UID: &str = "7c1e52ab-0d8f-4a35-9c7e-2f64b1a0d3e8";

    /// The files of a host that runs everything.
    pub(in crate::names::cgroup) fn host() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let docker = format!("var/lib/docker/containers/{}/config.v2.json", id('a'));
        write(&docker, r#"{"State":{"Running":true},"Name":"/postgres"}"#);
        let nerdctl = "run/containerd/io.containerd.runtime.v2.task/default";
        let annotations = r#"{"annotations":{"nerdctl/name":"cache"}}"#;
        write(&format!("{nerdctl}/{}/config.json", id('b')), annotations);
        let storage = "var/lib/containers/storage/overlay-containers";
        let listed = |id: String, name: &str| format!(r#"[{{"id":"{id}","names":["{name}"]}}]"#);
        write(
            &format!("{storage}/containers.json"),
            &listed(id('c'), "web"),
        );
        let volatile = format!("{storage}/volatile-containers.json");
        write(&volatile, &listed(id('d'), "once"));
        let log = format!("var/log/containers/web-7d9f_shop_nginx-{}.log", id('e'));
        write(&log, "");
        write(&format!("var/log/pods/shop_web-7d9f_{UID}/nginx/0.log"), "");
        root
    }

    #[test]
    fn names_from_the_files_of_each_runtime() {
        let host = host();
        let containers = Containers::new(host.path());
        let name = |path: &str| containers.name(&Workload::of(path));
        for (digit, expected) in [
            ('a', Some("postgres")),
            ('b', Some("cache")),
            ('c', Some("web")),
            ('d', Some("once")),
            ('e', Some("shop/web-7d9f/nginx")),
            ('f', None),
        ] {
            let path = format!("/docker/{}", id(digit));
            assert_eq!(name(&path).as_deref(), expected);
            assert_eq!(name(&format!("{path}/inner")).as_deref(), expected);
        }
        let pod = name(&format!("/kubepods/pod{UID}"));
        assert_eq!(pod.as_deref(), Some("shop/web-7d9f"));
        let holds_it = format!("/kubepods/pod{UID}/{}", id('f'));
        assert_eq!(name(&holds_it), pod);
        assert_eq!(name("/system.slice/docker.service"), None);
    }

    #[test]
    fn docker_may_keep_its_files_elsewhere() {
        let host = tempfile::tempdir().unwrap();
        let folder = host.path().join("srv/docker/containers").join(id('a'));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.v2.json"), r#"{"Name":"/db"}"#).unwrap();
        let name =
            || Containers::new(host.path()).name(&Workload::of(&format!("/docker/{}", id('a'))));
        assert_eq!(name(), None);
        fs::create_dir_all(host.path().join("etc/docker")).unwrap();
        let daemon = host.path().join("etc/docker/daemon.json");
        fs::write(daemon, r#"{"data-root":"/srv/docker"}"#).unwrap();
        assert_eq!(name().as_deref(), Some("db"));
    }

    #[test]
    fn damaged_files_name_nothing() {
        let host = host();
        for entry in ['a', 'c'].map(id) {
            let path = host.path().join("var/lib/docker/containers").join(&entry);
            fs::create_dir_all(&path).unwrap();
            for text in ["", "{", "[]", "7", r#"{"Name":7}"#] {
                fs::write(path.join("config.v2.json"), text).unwrap();
                let storage = host
                    .path()
                    .join("var/lib/containers/storage/overlay-containers");
                fs::write(storage.join("containers.json"), text).unwrap();
                let containers = Containers::new(host.path());
                let path = format!("/docker/{entry}");
                assert_eq!(containers.name(&Workload::of(&path)), None, "{text}");
            }
        }
    }
}
