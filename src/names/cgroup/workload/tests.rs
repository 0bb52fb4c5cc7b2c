//! Paths as systemd and the runtimes of containers make them.

use super::*;

const ID: &str = "9f3c1e2a4b5d60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
const UID: &str = "7c1e52ab-0d8f-4a35-9c7e-2f64b1a0d3e8";
const HASH: &str = "0123456789abcdef0123456789abcdef";

/// `ID` and `UID` stand for those above, `U_ID` for a uid as slices have it.
fn path(text: &str) -> String {
    let slice = UID.replace('-', "_");
    let text = text.replace("U_ID", &slice).replace("UID", UID);
    let text = text.replace("OTHER", &"f".repeat(64)).replace("HASH", HASH);
    text.replace("ID", ID)
}

#[test]
fn what_a_path_shows() {
    let cases = [
        // Nothing more than a path.
        ("/", "/"),
        ("/walk/inner", "/walk/inner"),
        ("/walk/ssh.service", "/walk/ssh.service"),
        ("/kubepods/burstable", "/kubepods/burstable"),
        ("/lxc", "/lxc"),
        ("/lxc.monitor.web", "/lxc.monitor.web"),
        ("/.service", "/.service"),
        // systemd.
        ("/init.scope", "init.scope"),
        ("/system.slice", "system.slice"),
        ("/system.slice/ssh.service", "ssh.service"),
        (
            "/system.slice/system-getty.slice/getty@tty1.service",
            "getty@tty1.service",
        ),
        (
            "/system.slice/systemd-udevd.service/udev",
            "systemd-udevd.service/udev",
        ),
        ("/system.slice/dev-hugepages.mount", "dev-hugepages.mount"),
        (
            "/system.slice/dev-disk-by\\x2duuid-1.swap",
            "dev-disk-by\\x2duuid-1.swap",
        ),
        ("/system.slice/docker.service", "docker.service"),
        ("/system.slice/docker.socket", "docker.socket"),
        ("/user.slice/user-1000.slice", "user-1000.slice"),
        (
            "/user.slice/user-1000.slice/session-3.scope",
            "session-3.scope",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service",
            "user@1000.service",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/init.scope",
            "user@1000.service/init.scope",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service/x",
            "user@1000.service/dbus.service/x",
        ),
        (
            "/system.slice/a.service/b.slice/c.service",
            "a.service/b.slice/c.service",
        ),
        // docker: systemd and cgroupfs, in a service, in docker, in a parent.
        ("/system.slice/docker-ID.scope", "docker 9f3c1e2a4b5d"),
        (
            "/system.slice/docker-ID.scope/init.scope",
            "docker 9f3c1e2a4b5d/init.scope",
        ),
        ("/docker/ID", "docker 9f3c1e2a4b5d"),
        (
            "/system.slice/docker.service/docker/ID",
            "docker 9f3c1e2a4b5d",
        ),
        ("/docker/OTHER/docker/ID", "docker 9f3c1e2a4b5d"),
        ("/docker/ID/docker", "docker 9f3c1e2a4b5d/docker"),
        ("/actions_job/ID", "container 9f3c1e2a4b5d"),
        ("/ecs/HASH/ID", "container 9f3c1e2a4b5d"),
        ("/docker/buildx", "/docker/buildx"),
        // podman: as root, as a user, in a pod, with cgroupfs.
        ("/machine.slice/libpod-ID.scope", "podman 9f3c1e2a4b5d"),
        (
            "/machine.slice/libpod-ID.scope/container",
            "podman 9f3c1e2a4b5d/container",
        ),
        (
            "/machine.slice/libpod-conmon-ID.scope",
            "conmon 9f3c1e2a4b5d",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            "podman 9f3c1e2a4b5d",
        ),
        ("/libpod_parent/libpod-ID", "podman 9f3c1e2a4b5d"),
        (
            "/machine.slice/machine-libpod_pod_ID.slice",
            "pod 9f3c1e2a4b5d",
        ),
        (
            "/machine.slice/machine-libpod_pod_ID.slice/libpod-ID.scope",
            "podman 9f3c1e2a4b5d",
        ),
        // Kubernetes: containerd, CRI-O, cgroupfs, kubelets with a root of their own.
        ("/kubepods.slice", "kubepods.slice"),
        (
            "/kubepods.slice/kubepods-besteffort.slice",
            "kubepods-besteffort.slice",
        ),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_ID.slice",
            "pod 7c1e52ab",
        ),
        ("/kubepods.slice/kubepods-podU_ID.slice", "pod 7c1e52ab"),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_ID.slice/\
             cri-containerd-ID.scope",
            "containerd 9f3c1e2a4b5d",
        ),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podHASH.slice/\
             crio-ID.scope/container",
            "cri-o 9f3c1e2a4b5d/container",
        ),
        (
            "/kubepods.slice/kubepods-podU_ID.slice/crio-conmon-ID.scope",
            "conmon 9f3c1e2a4b5d",
        ),
        ("/kubepods/burstable/podUID", "pod 7c1e52ab"),
        ("/kubepods/podUID/ID", "container 9f3c1e2a4b5d"),
        ("/k8s.io/kubepods/besteffort/podHASH", "pod 0123456789ab"),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podU_ID.slice",
            "pod 7c1e52ab",
        ),
        (
            "/system.slice/containerd.service/kubepods-besteffort-podU_ID.slice:cri-containerd:ID",
            "containerd 9f3c1e2a4b5d",
        ),
        (
            "/kubepods.slice/kubepods-podgy.slice",
            "kubepods-podgy.slice",
        ),
        ("/podUID", "/podUID"),
        // Machines.
        ("/machine.slice/systemd-nspawn@web.service", "machine web"),
        (
            "/machine.slice/systemd-nspawn@web\\x2d1.service/payload/init.scope",
            "machine web-1/payload/init.scope",
        ),
        (
            "/machine.slice/machine-qemu\\x2d3\\x2dvm.scope/libvirt",
            "machine qemu-3-vm/libvirt",
        ),
        ("/machine.slice/machine-a\\x.scope", "machine a\\x"),
        ("/lxc.payload.web/system.slice", "lxc web/system.slice"),
        ("/lxc/101/ns", "lxc 101/ns"),
        // Close to an id.
        ("/docker/9f3c1e2a4b5d", "/docker/9f3c1e2a4b5d"),
        ("/docker/xID", "/docker/xID"),
        ("/docker/ID-1", "/docker/ID-1"),
    ];
    for (text, shown) in cases {
        let own = path(text);
        assert_eq!(Workload::of(&own).shown(None), path(shown), "{text}");
    }
}

#[test]
fn names_stand_behind_what_they_are_for() {
    let path = path("/system.slice/docker-ID.scope/init.scope");
    let shown = Workload::of(&path).shown(Some("web"));
    assert_eq!(shown, "docker 9f3c1e2a4b5d (web)/init.scope");
}

#[test]
fn what_it_may_be_called() {
    let user = "/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service";
    let own = "user@1000.service/dbus.service";
    let uid = UID.replace('-', "_");
    let docker = "/system.slice/docker-ID.scope";
    let pod = "/kubepods.slice/kubepods-podU_ID.slice";
    for (text, name, called, not) in [
        (
            "/system.slice/ssh.service",
            None,
            &["ssh.service"][..],
            &["ssh", "h.service"][..],
        ),
        (user, None, &["dbus.service", own], &["user@1000.service"]),
        (
            "/machine.slice/systemd-nspawn@a\\x2db.service",
            None,
            &["a-b"],
            &["a", "b"],
        ),
        (
            docker,
            None,
            &["9f3c", &ID[..12], ID],
            &["9f3", "f3c1", "docker"],
        ),
        (docker, Some("web"), &["web", "9f3c"], &["we", "eb", "/web"]),
        (
            pod,
            Some("shop/db-0"),
            &["db-0", "shop/db-0", "7c1e", UID, &uid],
            &["b-0", "shop"],
        ),
        (
            "/docker/ID/below",
            Some("web"),
            &[],
            &["web", "9f3c", "below"],
        ),
        (
            "/machine.slice/libpod-conmon-ID.scope",
            None,
            &[],
            &["9f3c"],
        ),
        ("/walk", None, &[], &["walk", "/walk"]),
    ] {
        let path = path(text);
        let workload = Workload::of(&path);
        let is_called = |it: &&str| workload.is_called(it, name);
        assert_eq!(called.iter().find(|it| !is_called(it)), None, "{text}");
        let not = [not, &["", "/", "service"]].concat();
        assert_eq!(not.iter().find(|it| is_called(it)), None, "{text}");
    }
}

#[test]
fn a_container_knows_its_pod() {
    let pod = |text: &str| Workload::of(&path(text)).pod;
    let uid = Some(UID.to_owned());
    assert_eq!(pod("/kubepods/burstable/podUID/ID"), uid);
    assert_eq!(
        pod("/kubepods.slice/kubepods-podU_ID.slice/crio-ID.scope"),
        uid
    );
    assert_eq!(pod("/docker/ID"), None);
}
