// Who looks. The server refuses what they may not see or do; this keeps it from being offered.

let who = null;

export function known(principal) {
  who = principal;
}

// As long as nobody has said who looks, everything is offered, and pages say what is wrong.
const administers = () => !who || who.open || who.role === "admin";

export const may = {
  administer: administers,
  // What tells of all views: runs.
  readAll: () => administers() || who.views.includes("*"),
};
