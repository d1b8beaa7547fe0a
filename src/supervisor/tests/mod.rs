mod applying;
mod endings;
mod following;
mod rig;
