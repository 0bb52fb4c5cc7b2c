//! Tests on the running kernel, as root. Counts are exact: make 23 events, see
//! 23. Each test counts only children of its own, and leaves nothing behind.

#![allow(clippy::unwrap_used)] // In tests, panics are what tells.

#[path = "../common/mod.rs"]
mod common;

mod attach;
mod author;
mod blocks;
mod calls;
mod catalogue;
mod cgroups;
mod command;
mod conditions;
mod count;
mod declarations;
mod detach;
mod exact;
mod export;
mod fate;
mod faults;
mod files;
mod instances;
mod interface;
mod interrupts;
mod lifetime;
mod linear;
mod map;
mod maxima;
mod memory;
mod namespaces;
mod network;
mod objects;
mod other;
mod others;
mod pages;
mod pins;
mod privileges;
mod programs;
mod query;
mod readable_by;
mod reader;
mod readings;
mod replace;
mod rotate;
mod rotate_timed;
mod run;
mod schema;
mod session;
mod several;
mod soak;
mod stacks;
mod support;
mod tasks;
mod tcp;
mod terminal;
mod top;
mod typed;
mod under_way;
mod who;
