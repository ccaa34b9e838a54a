package conformance

import providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"

// eventFixtures tell of something while they run.
func eventFixtures() []fixture {
	return []fixture{{
		name: "test_tool_with_progress", description: "Reports progress three times.", schema: nothing, play: playProgress,
	}, {
		name: "test_tool_with_logging", description: "Sends three log messages.", schema: nothing, play: playLogging,
	}, {
		name: "test_logging_tool", description: "Sends a log message if the request asks for such.", schema: nothing,
		play: func(c *call) (*providerv1.CallToolResponse, error) {
			if err := c.log("The request asks for log messages"); err != nil {
				return nil, err
			}
			return say("Logging evaluated")
		},
	}}
}

func playProgress(c *call) (*providerv1.CallToolResponse, error) {
	for _, done := range []float64{0, 50, 100} {
		if done > 0 {
			if err := c.wait(); err != nil {
				return nil, err
			}
		}
		if err := c.progress(done); err != nil {
			return nil, err
		}
	}
	return say("Tool with progress executed successfully")
}

func playLogging(c *call) (*providerv1.CallToolResponse, error) {
	for i, message := range []string{"Tool execution started", "Tool processing data", "Tool execution completed"} {
		if i > 0 {
			if err := c.wait(); err != nil {
				return nil, err
			}
		}
		if err := c.log(message); err != nil {
			return nil, err
		}
	}
	return say("Tool with logging executed successfully")
}
