//! Queues and stacks: `push`, `pop` and `peek`, and what they have not.

use libbpf_rs::MapType;

use super::{map, map_json};
use crate::support::maps::{create, id};

#[test]
fn a_queue_and_a_stack_hand_out_in_their_order() {
    for (ty, order) in [
        (MapType::Queue, ["1", "2", "3"]),
        (MapType::Stack, ["3", "2", "1"]),
    ] {
        let map = create(ty, 0, 4, 3);
        let map = id(&map);
        map!("pop", map).failed(3, &["empty"]);
        map!("peek", map).failed(3, &["empty"]);
        for value in ["1", "2", "3"] {
            map!("push", map, value).done();
        }
        map!("push", map, 4).failed(1, &["full", "3 of 3"]);
        for value in order {
            for _ in 0..2 {
                assert_eq!(map!("peek", map).done().trim(), value);
            }
            assert_eq!(map_json!("pop", map).to_string(), value);
        }
        map!("pop", map).failed(3, &["empty"]);
    }
}

/// In a full one the oldest makes room, whatever its order.
#[test]
fn replace_pushes_the_oldest_out() {
    for (ty, order) in [(MapType::Queue, ["2", "3"]), (MapType::Stack, ["3", "2"])] {
        let map = create(ty, 0, 4, 2);
        let map = id(&map);
        for value in ["1", "2", "3"] {
            map!("push", map, value, "--replace").done();
        }
        for value in order {
            assert_eq!(map!("pop", map).done().trim(), value);
        }
        map!("peek", map).failed(3, &["empty"]);
    }
}

#[test]
fn values_are_checked_and_keys_refused() {
    let queue = create(MapType::Queue, 0, 1, 2);
    let queue = id(&queue);
    map!("push", queue, 256).failed(2, &["0 to 255"]);
    map!("push", queue, "--", -1).failed(2, &["0 to 255"]);
    map!("push", queue, "hex:0102").failed(2, &["2 bytes"]);
    map!("push", queue, "hex:ff").done();
    assert_eq!(map!("peek", "--raw", queue).done(), "hex:ff\n");
    for verb in ["dump", "save"] {
        let file = (verb == "save").then(|| "-".to_owned());
        let args = [verb.to_owned(), queue.to_string()].into_iter().chain(file);
        super::run(args).failed(1, &["type queue"]);
    }
    map!("drain", queue).failed(1, &["failed to drain"]);
    map!("next-key", queue).failed(1, &["type queue"]);
    map!("clear", queue, "--yes").failed(1, &["type queue"]);
    assert_eq!(map!("pop", queue).done(), "255\n");
    let hash = create(MapType::Hash, 4, 4, 1);
    let hash = id(&hash);
    map!("pop", hash).failed(1, &["type hash", "has keys"]);
    map!("peek", hash).failed(1, &["type hash", "has keys"]);
    map!("push", hash, 1).failed(1, &["type hash"]);
}
