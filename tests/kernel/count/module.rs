//! Events of a module: of sockets within one machine, where that is loaded.

use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::{fs::File, mem};

use crate::common::ktally;
use crate::support::{Child, count, needs};

fn socket() -> OwnedFd {
    // SAFETY: takes integers; nothing else has the descriptor.
    unsafe {
        let socket = libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0);
        assert!(socket >= 0);
        OwnedFd::from_raw_fd(socket)
    }
}

/// 23 packets of 5 bytes, to a socket of this process.
fn send() {
    let (server, client) = (socket(), socket());
    // SAFETY: zeroes are an address.
    let mut address: libc::sockaddr_vm = unsafe { mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as u16;
    address.svm_cid = libc::VMADDR_CID_LOCAL;
    address.svm_port = 2342;
    let (place, len) = ((&raw const address).cast(), size_of_val(&address) as u32);
    // SAFETY: an address of that length, and descriptors that are open.
    unsafe {
        assert_eq!(libc::bind(server.as_raw_fd(), place, len), 0);
        assert_eq!(libc::listen(server.as_raw_fd(), 1), 0);
        assert_eq!(libc::connect(client.as_raw_fd(), place, len), 0);
    }
    let mut client = File::from(client);
    for _ in 0..23 {
        client.write_all(b"hello").unwrap();
    }
}

#[test]
fn modules_have_events() {
    if !Path::new("/sys/module/vsock_loopback").exists() {
        return;
    }
    needs((5, 11), "the BTF of modules");
    let child = Child::new("kt-vsock", send);
    // 5 is VIRTIO_VSOCK_OP_RW.
    let query = "count virtio_transport_alloc_pkt --by comm,dst_port,len --where op=5";
    let counted = count(query, &child, &[]);
    let row = counted.only_row(&["kt-vsock", "2342", "5"]);
    assert_eq!(row.number("events"), 23);
    // A type of the module.
    let query = "count virtio_transport_stream_enqueue --by comm,vsk.remote_addr.svm_port,len";
    let counted = count(query, &child, &[]);
    let row = counted.only_row(&["kt-vsock", "2342", "5"]);
    assert_eq!(row.number("events"), 23);

    let query = "count virtio_transport_alloc_pk";
    let near = "did you mean `virtio_transport_alloc_pkt`";
    ktally(query).refused(2, &[near]);
    let listed = ktally("events virtio_transport_* -o json").done();
    for event in [
        "virtio_transport_alloc_pkt",
        "virtio_transport_stream_enqueue",
    ] {
        assert!(listed.contains(&format!("\"{event}\"")), "{listed}");
    }
    let listed = ktally("events virtio_transport_alloc_pkt").done();
    assert!(listed.contains("dst_port"), "{listed}");
}
