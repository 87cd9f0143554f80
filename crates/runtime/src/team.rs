//! Threads that help with one sample.
//!
//! The caller's thread takes all steps. For one that is worth sharing it lays out the operand and offers the rows of the result
//! in parts; every thread that is awake claims parts, the caller's too, until none is left. So nobody waits for a thread that
//! has not begun. Threads have only rows to exchange and scratch of their own. One without work waits for a moment and then sleeps.

extern crate std;

use alloc::{sync::Arc, vec, vec::Vec};
use core::{
    hint::spin_loop,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
use std::{
    sync::{Mutex, PoisonError, RwLock},
    thread::{self, JoinHandle},
};

use crate::{
    codes::{CodesMut, CodesRef},
    forward::{compute, enter},
    kernels::fast::Scratch,
    memory::Memory,
    model::IntegerModel,
    plan::{Plan, Share},
};

/// Turns of waiting before a thread lets others run, and before one without work sleeps.
const PATIENT: usize = 1 << 12;
const AWAKE: usize = PATIENT + 64;

/// What the threads share.
#[derive(Debug)]
struct Shared {
    plan: Arc<Plan>,
    /// Parts of a step.
    parts: usize,
    job: RwLock<Job>,
    /// Number of the job in the upper half, and the first part of it that nobody has claimed.
    offer: AtomicU64,
    /// Parts of the job that are computed.
    done: AtomicUsize,
    /// The rows of each part, where another thread than the caller's has computed them.
    rows: Vec<Mutex<Vec<i8>>>,
    /// Whether the threads shall end, and whether one of them has failed.
    ended: AtomicBool,
    failed: AtomicBool,
}

/// A step that is offered, and its operand.
#[derive(Debug)]
struct Job {
    step: usize,
    x: Vec<i8>,
}

/// The threads beside the caller's.
#[derive(Debug)]
pub(crate) struct Team {
    shared: Arc<Shared>,
    others: Vec<JoinHandle<()>>,
    jobs: u32,
    allocated: [usize; 2],
}

/// Sets the flag if the thread that holds it fails, so that no other waits for it.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Release);
        }
    }
}

impl Team {
    /// Starts `threads − 1` threads; `None` where the plan has no step that they gain by sharing, or threads are short.
    pub(crate) fn new(plan: &Arc<Plan>, threads: usize) -> Option<Self> {
        let shares: Vec<(usize, Share)> =
            plan.steps.iter().filter_map(|step| Some((plan.cells[step.inputs[0]].length, plan.share(step)?))).collect();
        let operand = shares.iter().map(|(length, _)| *length).max()?;
        let rows = shares.iter().map(|(_, share)| share.rows.div_ceil(threads) * share.length).max()?;
        let shared = Arc::new(Shared {
            plan: plan.clone(),
            parts: threads,
            job: RwLock::new(Job { step: 0, x: vec![0; operand] }),
            offer: AtomicU64::new(threads as u64),
            done: AtomicUsize::new(0),
            rows: (0..threads).map(|_| Mutex::new(vec![0; rows])).collect(),
            ended: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let mut team = Self { shared, others: Vec::new(), jobs: 0, allocated: [operand + threads * rows, 0] };
        for _ in 1..threads {
            let (shared, scratch) = (team.shared.clone(), Scratch::new(plan.scratch(1)));
            team.allocated[1] += scratch.allocated();
            // A team that is dropped here ends the threads that were started.
            team.others.push(thread::Builder::new().spawn(move || shared.serve(scratch)).ok()?);
        }
        Some(team)
    }

    /// Bytes allocated for codes, and for scratch, beside those of the caller's thread.
    pub(crate) fn allocated(&self) -> [usize; 2] {
        self.allocated
    }

    /// Computes one sample; `memory` is the caller's.
    pub(crate) fn compute(&mut self, model: &IntegerModel, memory: &mut Memory, input: &[i8]) {
        let plan = self.shared.plan.clone();
        self.others.iter().for_each(|other| other.thread().unpark());
        enter(&plan, memory, 1, CodesRef::Int8(input));
        for (index, step) in plan.steps.iter().enumerate() {
            match plan.share(step) {
                Some(share) => self.compute_step(index, share, memory),
                None => compute(model, &plan, memory, 1, step),
            }
        }
    }

    fn compute_step(&mut self, index: usize, share: Share, memory: &mut Memory) {
        let shared = &*self.shared;
        let (CodesMut::Int8(y), others, scratch) = memory.write(&shared.plan, share.output, 1) else {
            unreachable!("fast kernels give int8 codes");
        };
        let x = others.int8(share.input);
        {
            // No part of an earlier job is being computed, so nobody reads.
            let mut job = shared.job.write().unwrap_or_else(PoisonError::into_inner);
            job.step = index;
            job.x[..x.len()].copy_from_slice(x);
        }
        self.jobs = self.jobs.wrapping_add(1);
        shared.done.store(0, Ordering::Relaxed);
        shared.offer.store(u64::from(self.jobs) << 32, Ordering::Release);
        let mut own = vec![false; shared.parts];
        while let Some(part) = shared.claim() {
            own[part] = true;
            let rows = shared.part(part, share.rows);
            let y = &mut y[rows.start * share.length..rows.end * share.length];
            share.kernel.compute_rows(share.level, scratch, rows, x, y);
            shared.done.fetch_add(1, Ordering::Release);
        }
        let mut turns = 0;
        while shared.done.load(Ordering::Acquire) < shared.parts {
            assert!(!shared.failed.load(Ordering::Acquire), "a thread of the engine has failed");
            turns += 1;
            if turns < PATIENT { spin_loop() } else { thread::yield_now() }
        }
        for part in (0..shared.parts).filter(|&part| !own[part]) {
            let rows = shared.part(part, share.rows);
            let y = &mut y[rows.start * share.length..rows.end * share.length];
            y.copy_from_slice(&shared.rows[part].lock().unwrap_or_else(PoisonError::into_inner)[..y.len()]);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        for other in self.others.drain(..) {
            other.thread().unpark();
            // One that has failed has said so by its panic.
            let _ = other.join();
        }
    }
}

impl Shared {
    /// The life of a thread beside the caller's.
    fn serve(&self, mut scratch: Scratch) {
        let _alarm = Alarm(&self.failed);
        let mut turns = 0;
        while !self.ended.load(Ordering::Acquire) {
            if let Some(part) = self.claim() {
                turns = 0;
                self.compute_part(part, &mut scratch);
                self.done.fetch_add(1, Ordering::Release);
                continue;
            }
            turns += 1;
            if turns < PATIENT {
                spin_loop();
            } else if turns < AWAKE {
                thread::yield_now();
            } else {
                thread::park();
                turns = 0;
            }
        }
    }

    fn compute_part(&self, part: usize, scratch: &mut Scratch) {
        // The job stays until this part is done.
        let job = self.job.read().unwrap_or_else(PoisonError::into_inner);
        let share = self.plan.share(&self.plan.steps[job.step]).expect("shared steps alone are offered");
        let rows = self.part(part, share.rows);
        let mut y = self.rows[part].lock().unwrap_or_else(PoisonError::into_inner);
        let length = rows.len() * share.length;
        let x = &job.x[..self.plan.cells[share.input].length];
        share.kernel.compute_rows(share.level, scratch, rows, x, &mut y[..length]);
    }

    /// A part of the job that nobody else computes; `None` where none is left.
    fn claim(&self) -> Option<usize> {
        let mut offer = self.offer.load(Ordering::Acquire);
        loop {
            let part = offer & u64::from(u32::MAX);
            if part >= self.parts as u64 {
                return None;
            }
            // It fails where the job or the part is another one by now.
            match self.offer.compare_exchange_weak(offer, offer + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(part as usize),
                Err(found) => offer = found,
            }
        }
    }

    /// The rows of a part.
    fn part(&self, part: usize, rows: usize) -> Range<usize> {
        rows * part / self.parts..rows * (part + 1) / self.parts
    }
}
