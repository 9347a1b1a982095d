// The API's description at /docs, drawn by Swagger UI (the global of swagger-ui-bundle.js).

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
});
