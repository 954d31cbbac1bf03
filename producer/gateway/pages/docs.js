"use strict";

// Where the gateway is mounted in another application, its paths begin at this page's folder.
async function show() {
  const answer = await fetch("openapi.json");
  const spec = await answer.json();
  spec.servers = [{ url: new URL(".", location.href).pathname.replace(/\/$/, "") || "/" }];
  SwaggerUIBundle({
    spec,
    dom_id: "#ui",
    deepLinking: true,
    tryItOutEnabled: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
  });
}

const dark = matchMedia("(prefers-color-scheme: dark)");

function shade() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

dark.addEventListener("change", shade);
shade();
show();
