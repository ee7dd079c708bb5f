//! Tells the agent where the kernel programs are that it embeds.

mod build_objects;

fn main() -> std::process::ExitCode {
    build_objects::export(&[("balancer", "MESHLB_BALANCER_OBJECT"), ("decap", "MESHLB_DECAP_OBJECT")])
}
