//! The programs of a plan: what each does, as statements. Names that a plan can have do
//! not end in `_`; those of variables do.

use std::fmt::Write;

use super::c_name;
use super::value::Words;
use crate::query::column::Measure;
use crate::query::event::Event;
use crate::query::field::Stored;
use crate::query::interval::End;
use crate::query::plan::Plan;

/// The variables, each with its declaration.
const VARIABLES: [(&str, &str); 9] = [
    (
        "current",
        "struct task_struct *current = (void *)bpf_get_current_task()",
    ),
    ("key_", ""),
    ("begun_", "struct begun *begun_ = tally_cpu_state(scratch)"),
    ("start_", "struct begun *start_"),
    ("value_", "struct counted *value_"),
    ("pair_", "__u64 pair_"),
    ("time_", "__u64 time_"),
    ("number_", "__u64 number_"),
    ("text_", "char text_[64]"),
];

impl Plan {
    pub(super) fn programs_in_c(&self) -> String {
        let event = (&self.event, &self.arguments[..]);
        match &self.end {
            None => self.program("count", event, &self.counted()),
            Some(end) if self.is_of_one_event() => {
                let both = self.ended(end, "goto begin_") + "begin_:\n" + &self.begun(end);
                self.program("count", event, &both)
            }
            // Programs are attached in this order.
            Some(end) => {
                let ended = self.ended(end, "return 0") + "\treturn 0;\n";
                let at_end = (&end.event, &end.arguments[..]);
                self.program("count_to", at_end, &ended)
                    + &self.program("count_from", event, &self.begun(end))
            }
        }
    }

    fn program(&self, name: &str, (event, arguments): (&Event, &[String]), body: &str) -> String {
        let attach = event.target();
        let attach = attach.map_or_else(String::new, |it| format!(" ATTACH(\"{it}\")"));
        let mut c = format!("\nSEC(\"{}\"){attach}\nint ", event.section());
        let listed = [&[name.to_owned()], arguments].concat().join(", ");
        c += &match event {
            Event::Function {
                is_probed: true,
                at_return,
                ..
            } => format!(
                "BPF_K{}PROBE({listed})",
                if *at_return { "RET" } else { "" }
            ),
            Event::Tracepoint(_) | Event::Function { .. } => format!("BPF_PROG({listed})"),
            Event::User { .. } => format!("{name}(struct pt_regs *ctx)"),
            Event::Record(..) | Event::Clock(_) => format!("{name}(void *ctx)"),
        };
        c += "\n{\n";
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words: Vec<&str> = body.split(|c| !is_word(c)).collect();
        for (name, declared) in VARIABLES.iter().filter(|(name, _)| words.contains(name)) {
            let declared = match *name {
                "key_" if self.has_stacks() => "struct counted_by *key_ = tally_cpu_state(scratch)",
                "key_" => "struct counted_by key_ = {}",
                _ => declared,
            };
            let _ = writeln!(c, "\t{declared};");
        }
        c + "\n" + body + "}\n"
    }

    /// An event that is counted when it happens.
    fn counted(&self) -> String {
        let mut c = "\tif (!wanted_cpu() || !wanted_task())\n\t\treturn 0;\n".to_owned();
        self.filter(&mut c, false, "return 0");
        let (key, member) = match self.has_stacks() {
            true => ("key_", "key_->"),
            false => ("&key_", "key_."),
        };
        if self.has_stacks() {
            c += "\tif (!key_)\n\t\treturn 0;\n";
            self.clear(&mut c, "key_");
        }
        self.fill(&mut c, false, member);
        self.add(&mut c, key);
        c + "\treturn 0;\n"
    }

    /// An event that begins an interval.
    fn begun(&self, end: &End) -> String {
        let mut c = "\tif (!begun_ || !wanted_cpu() || !wanted_task())\n\t\treturn 0;\n".to_owned();
        self.filter(&mut c, false, "return 0");
        self.clear(&mut c, "&begun_->key");
        self.fill(&mut c, false, "begun_->key.");
        let pair = self.words().number(&end.pairs[0], "pair_");
        let _ = writeln!(c, "\t{pair};\n\tbegun_->since = bpf_ktime_get_ns();");
        c += "\tif (bpf_map_update_elem(&starts, &pair_, begun_, BPF_ANY))\n";
        c + "\t\ttally_dropped(events);\n\treturn 0;\n"
    }

    /// An event that ends one. Without a start it does nothing but `none`.
    fn ended(&self, end: &End, none: &str) -> String {
        let pair = self.words().number(&end.pairs[1], "pair_");
        let mut c = format!("\t{pair};\n\tstart_ = bpf_map_lookup_elem(&starts, &pair_);\n");
        let _ = writeln!(c, "\tif (!start_)\n\t\t{none};");
        c += "\ttime_ = bpf_ktime_get_ns() - start_->since;\n";
        self.filter(&mut c, true, "goto ended_");
        self.fill(&mut c, true, "start_->key.");
        self.add(&mut c, "&start_->key");
        if self.filters.iter().any(|it| it.field.at_end) {
            c += "ended_:\n";
        }
        c + "\tbpf_map_delete_elem(&starts, &pair_);\n"
    }

    fn words(&self) -> Words<'_> {
        Words {
            start: &self.event,
            end: self.end.as_ref().map(|end| &end.event),
        }
    }

    /// Leaves an event that does not meet a condition.
    fn filter(&self, c: &mut String, at_end: bool, leave: &str) {
        for filter in self.filters.iter().filter(|it| it.field.at_end == at_end) {
            let is_text = filter.field.stored.is_text();
            let value = if is_text { "text_" } else { "number_" };
            if is_text {
                *c += "\t__builtin_memset(text_, 0, sizeof(text_));\n";
            }
            let statement = self.words().value(&filter.field, value);
            let test = filter.as_c(value);
            let _ = writeln!(c, "\t{statement};\n\tif ({test})\n\t\t{leave};");
        }
    }

    /// Zeroes a key. Stacks come last, and are filled to their ends.
    fn clear(&self, c: &mut String, key: &str) {
        let stack = self.key.iter().find(|it| it.field.stored.is_stack());
        let size = match stack.map(|it| c_name(&it.name)) {
            Some(stack) => format!("__builtin_offsetof(struct counted_by, {stack})"),
            None => "sizeof(struct counted_by)".to_owned(),
        };
        let _ = writeln!(c, "\t__builtin_memset({key}, 0, {size});");
    }

    /// Fills the parts of a key, which is zeroes.
    fn fill(&self, c: &mut String, at_end: bool, key: &str) {
        for column in self.key.iter().filter(|it| it.field.at_end == at_end) {
            let to = format!("{key}{}", c_name(&column.name));
            let statement = match column.field.stored {
                Stored::KernelStack => {
                    let own_frames = column.field.offsets[0];
                    format!("bpf_get_stack(ctx, &{to}, sizeof({to}), {own_frames})")
                }
                Stored::UserStack => format!("tally_user_stack(ctx, &{to})"),
                _ => self.words().value(&column.field, &to),
            };
            let _ = writeln!(c, "\t{statement};");
        }
    }

    /// Counts it in the row of a key.
    fn add(&self, c: &mut String, key: &str) {
        let _ = writeln!(
            c,
            "\n\tvalue_ = tally_entry(events, {key});\n\t__sync_fetch_and_add(&value_->events, 1);"
        );
        for column in &self.values {
            let to = format!("&value_->{}", c_name(&column.name));
            let add = match column.measure {
                Measure::Max => "tally_maximum",
                Measure::Min => "tally_minimum",
                Measure::Log2 => "tally_observe",
                Measure::Linear(_) => "tally_observe_linear",
                Measure::Key | Measure::Sum => "__sync_fetch_and_add",
            };
            let statement = self.words().number(&column.field, "number_");
            let _ = writeln!(c, "\t{statement};");
            if column.measure != Measure::Sum && column.field.is_signed() {
                *c += "\tif ((__s64)number_ < 0)\n\t\tnumber_ = 0;\n";
            }
            let _ = writeln!(c, "\t{add}({to}, number_);");
        }
    }
}
