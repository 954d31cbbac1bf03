"""What people see in a browser: the page of the gateway, and the OpenAPI document made readable."""
