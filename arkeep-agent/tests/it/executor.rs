mod hooks;
mod order;
mod recovery;
mod upkeep;
