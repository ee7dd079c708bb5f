//! Tells the tests where the kernel programs are that only they use.

#[path = "../mesh-userspace/build_objects.rs"]
mod build_objects;

fn main() -> std::process::ExitCode {
    build_objects::export(&[("bench", "MESHLB_BENCH_OBJECT")])
}
