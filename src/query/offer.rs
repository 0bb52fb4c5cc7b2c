//! What there is to count, and what an event offers: for `ktally events`.

use anyhow::Result;

use super::event::{Event, World};
use super::expression::Word;
use super::field::Field;
use super::members::flat;
use super::resolve::resolve;
use super::scope::{COMMON, Root, Scope};
use crate::schema::KernelBtf;
use crate::schema::walk::{Id, Shape};

/// A tracepoint or a function, and what it takes: `prev: struct task_struct *`.
#[derive(Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) arguments: String,
}

/// What can be written for a value, and its type in C.
#[derive(Debug, PartialEq)]
pub(crate) struct Offer {
    pub(crate) expression: String,
    pub(crate) c_type: String,
    /// How it is shown, or why it is no value itself.
    pub(crate) shown: String,
}

/// The events that meet a condition on their names; functions only on request.
pub(crate) fn known_events(
    kernel: &KernelBtf,
    with_functions: bool,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Known>> {
    let mut found = known_in(kernel, with_functions, is_wanted);
    for module in kernel.modules_with(with_functions, is_wanted) {
        found.extend(known_in(&kernel.with(module)?, with_functions, is_wanted));
    }
    found.sort_by(|a, b| (b.kind, &a.name).cmp(&(a.kind, &b.name)));
    Ok(found)
}

fn known_in(
    kernel: &KernelBtf,
    with_functions: bool,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Vec<Known> {
    let [tracepoints, functions] = kernel.events();
    let tracepoints = tracepoints.into_iter().map(|it| ("tracepoint", it));
    let functions = functions.into_iter().map(|it| ("function", it));
    let functions = functions.filter(|_| with_functions);
    let events = tracepoints.chain(functions);
    let events = events.filter(|(_, (name, _))| is_wanted(name));
    let events = events.map(|(kind, (name, prototype))| {
        let arguments = prototype.arguments.iter();
        let arguments = arguments.map(|it| format!("{}: {}", it.name, kernel.c_name(it.ty)));
        Known {
            name,
            kind,
            arguments: arguments.collect::<Vec<_>>().join(", "),
        }
    });
    events.collect()
}

/// What can be written after `--by` for an event: its arguments, their members one level
/// deep, and what every event has.
pub(crate) fn offers(event: &str, at_return: bool, world: &World<'_>) -> Result<Vec<Offer>> {
    let event = Event::parse(event, at_return, world)?;
    let scope = Scope::new(world, event)?;
    let mut offers = Vec::new();
    for name in scope.names() {
        let help = COMMON.iter().find(|(common, _)| *common == name);
        let word = Word {
            text: name.to_owned(),
            at: 1,
        };
        match (scope.root(&word)?, help) {
            (Root::Word(_, ty), _) => add(&scope, name, ty, &mut offers),
            (Root::Field(field), None) => offers.push(offer(&field)),
            (Root::Field(field), Some((_, help))) => offers.push(Offer {
                shown: (*help).to_owned(),
                ..offer(&field)
            }),
            (Root::Memory(..), _) => offers.push(Offer {
                expression: name.to_owned(),
                c_type: "struct task_struct *".to_owned(),
                shown: "write a member: the current task".to_owned(),
            }),
        }
    }
    Ok(offers)
}

fn offer(field: &Field) -> Offer {
    Offer {
        expression: field.name.clone(),
        c_type: field.c_type.clone(),
        shown: match &field.elements {
            Some((_, first)) if first.size > 1 => "write an element".to_owned(),
            _ => field.decoder.clone().unwrap_or_default(),
        },
    }
}

/// An argument, and the members of the struct that it points to.
fn add(scope: &Scope<'_>, name: &str, ty: Id, offers: &mut Vec<Offer>) {
    let kernel = scope.kernel;
    offers.push(of(scope, name, ty));
    let Shape::Pointer(to) = kernel.node(ty).shape else {
        return;
    };
    for member in flat(kernel, to) {
        offers.push(of(scope, &format!("{name}.{}", member.name), member.ty));
    }
}

fn of(scope: &Scope<'_>, expression: &str, ty: Id) -> Offer {
    let kernel = scope.kernel;
    match resolve(scope, expression, None) {
        Ok(field) => offer(&field),
        Err(_) => Offer {
            expression: expression.to_owned(),
            c_type: kernel.c_name(ty),
            shown: match kernel.node(ty).shape {
                Shape::Composite(_) => "write a member".to_owned(),
                Shape::Array(..) => "write an element".to_owned(),
                _ => "not a value".to_owned(),
            },
        },
    }
}
