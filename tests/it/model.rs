//! Random operations against a model so simple that it is right: what every contact's updates must have been, what
//! must be dead and what pending.

mod world;

use std::thread;

use crate::support::scene::seed;
use world::World;

/// Worlds that are played at once.
const WORLDS: u64 = 4;
/// Operations in each.
const STEPS: usize = 600;

#[test]
fn whatever_happens_every_event_ends_where_the_model_says() {
    let seed = seed("model");
    thread::scope(|scope| {
        for number in 0..WORLDS {
            scope.spawn(move || play(seed.wrapping_add(number)));
        }
    });
}

fn play(seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut world = World::new(seed, chance.fork());
    for _ in 0..STEPS {
        match chance.u32(..100) {
            0..60 => world.post(),
            60..70 => world.post_again(),
            70..77 => world.retry_one(),
            77..79 => world.retry_all(),
            79..83 => world.drop_one(),
            83..91 => world.change_api(),
            91..93 => world.kill(),
            93..95 => world.stop_and_start(),
            95..97 => world.reload(),
            _ => world.compare(),
        }
    }
    world.end();
}
